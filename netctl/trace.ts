import type { NetworkNamespace } from "#kernel/namespace.ts";
import { formatIp, type IpAddress, tryParseIp } from "#net/ip.ts";
import { Nftables } from "#nftables/nftables.ts";
import type { Register } from "./command.ts";
import { describeError, ExitCode, Failure, UsageFailure } from "./failure.ts";
import { writeJson } from "./io.ts";
import { type Flow, type Hop, pass, stop } from "./trace/hop.ts";
import { addressesCalled, type KnownCluster, readKnownCluster } from "./trace/overlay.ts";
import { findPath } from "./trace/path.ts";
import { findPlace, findTarget, type Place } from "./trace/place.ts";
import { type ProbeResult, probe } from "./trace/probe.ts";
import type { World } from "./world.ts";

interface TraceFlags {
  readonly probe?: boolean;
  readonly json?: boolean;
}

export const registerTrace: Register = (parent, invoke) => {
  parent
    .command("trace")
    .summary("Say whether and how a packet gets somewhere")
    .description(
      "Follow a packet from one place to another: route, link, bridge, published port, listener. What stops it is named, with what helps. With --probe one packet is sent, and the kernel says which rules of the host it meets.",
    )
    .argument(
      "<from>",
      "sandbox, container or pod of any runtime by name or id, process id, path of a namespace, or host",
    )
    .argument(
      "<to>",
      "the same, an address, or what a container is called in a network over several hosts; with :PORT or :PORT/udp, [ADDRESS]:PORT for IPv6. Without a port: a ping",
    )
    .option("--probe", "send a packet, and show the rules that decide")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      `
Exit code: 0 if nothing stops it, 1 if something does.

Examples:
  netctl trace alice bob
  netctl trace alice bob:5432 --probe
  netctl trace host 127.0.0.1:8080
  netctl trace 4711 192.0.2.7:53/udp`,
    )
    .action((from: string, to: string, flags: TraceFlags, command) =>
      invoke(command, (world) => trace(from, to, flags, world)),
    );
};

async function trace(fromText: string, toText: string, flags: TraceFlags, world: World): Promise<ExitCode> {
  const { target, flow } = parseTarget(toText);
  const from = await findPlace(world, fromText);
  const cluster = readKnownCluster(world);
  const to = await findAnywhere(world, target, from, cluster);
  const { netns } = from;
  if (netns === undefined) throw new Failure(`${fromText} has no namespace here`);
  const address = chooseAddress(from, to);
  const { namespace } = world.kernel;
  const path = await follow({ ...from, netns }, to, address, flow, namespace, cluster);
  // What is unknown by looking, the probe says.
  const hops =
    flags.probe === true
      ? path.filter(({ at, verdict }) => at !== "host" || verdict !== "unknown")
      : [...path];
  let probed: ProbeResult | undefined;
  if (flags.probe === true) {
    const source = from.addresses.find(({ family }) => family === address.family);
    try {
      probed = await probe(netns, address, from.name === "host" ? undefined : source, flow);
    } catch (error) {
      throw new Failure(`Cannot probe: ${describeError(error)}`, { cause: error });
    }
    hops.push(
      ...describeProbe(
        probed,
        hops.some(({ verdict }) => verdict === "stop"),
      ),
    );
  }
  const stopped = hops.find(({ verdict }) => verdict === "stop");
  if (flags.json === true) {
    writeJson(world.io, {
      from: from.name,
      to: to.name,
      address: formatIp(address),
      ...flow,
      hops,
      probe: probed ?? null,
      reaches: stopped === undefined,
    });
  } else {
    const what = flow.port === undefined ? "ping" : `${flow.protocol} port ${flow.port}`;
    world.io.stdout(
      `${from.name} to ${to.name === formatIp(address) ? to.name : `${to.name} (${formatIp(address)})`}, ${what}\n`,
    );
    const { colors } = world.io;
    const signs = { pass: colors.green("✓"), stop: colors.red("✗"), unknown: colors.yellow("?") };
    for (const { at, text, verdict, remedy } of hops) {
      world.io.stdout(`  ${signs[verdict]} ${at}: ${text}\n`);
      if (remedy !== undefined) world.io.stdout(`      remedy: ${remedy}\n`);
    }
  }
  return stopped ? ExitCode.Failure : ExitCode.Ok;
}

/** What is here under that very name, then what is called so on another host, then what begins so. */
async function findAnywhere(
  world: World,
  target: string,
  from: Place,
  cluster: KnownCluster | undefined,
): Promise<Place> {
  const isHere =
    target === "host" ||
    tryParseIp(target) !== undefined ||
    (await world.sandboxes.list()).some(({ name }) => name === target);
  const addresses = cluster && !isHere ? await addressesCalled(world, cluster, target, from.addresses) : [];
  // It has no namespace on this host.
  return addresses.length > 0 ? { name: target, addresses } : await findTarget(world, target);
}

async function follow(
  from: Place & { readonly netns: string },
  to: Place,
  address: IpAddress,
  flow: Flow,
  host: NetworkNamespace,
  cluster: KnownCluster | undefined,
): Promise<readonly Hop[]> {
  const nftables = new Nftables();
  try {
    return await findPath({ host, nftables, from, to, address, flow, ...(cluster && { cluster }) });
  } finally {
    nftables.close();
  }
}

/** `NAME`, `NAME:PORT`, `NAME:PORT/udp`, `[2001:db8::1]:PORT`. */
export function parseTarget(text: string): { readonly target: string; readonly flow: Flow } {
  const found = /^(?:\[([^\]]+)\]|([^[\]:]*))(?::(\d{1,5})(?:\/(tcp|udp))?)?$/.exec(text);
  const isPlainIpv6 = /^[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:.]*$/i.test(text);
  if (isPlainIpv6) return { target: text, flow: { protocol: "icmp" } };
  const target = found?.[1] ?? found?.[2] ?? "";
  const port = found?.[3] === undefined ? undefined : Number(found[3]);
  if (!found || target === "" || port === 0 || (port ?? 1) > 65_535)
    throw new UsageFailure(
      `Cannot use "${text}" as a target: expected NAME or ADDRESS, with :PORT or :PORT/udp`,
    );
  return {
    target,
    flow: port === undefined ? { protocol: "icmp" } : { protocol: found[4] === "udp" ? "udp" : "tcp", port },
  };
}

/** Of the target's addresses the first of a family that the sender has too; IPv4 before IPv6. */
function chooseAddress(from: Place, to: Place): IpAddress {
  const [only] = to.addresses;
  if (!only)
    throw new Failure(
      `${to.name} has no address that could be reached; netctl inspect ${to.name} shows its interfaces`,
    );
  if (to.netns === undefined) return only;
  const families = new Set(from.addresses.map(({ family }) => family));
  const sorted = [...to.addresses].sort((a, b) => a.family - b.family);
  return sorted.find(({ family }) => families.has(family)) ?? only;
}

/** @param isExplained the path has shown already what stops it */
function describeProbe({ outcome, steps }: ProbeResult, isExplained: boolean): readonly Hop[] {
  const rules = steps
    // Chains that let everything of this kind pass have nothing to say.
    .filter(({ chain, verdict }) => !(chain.includes(" vxlan_") && verdict !== "drop"))
    .filter(
      ({ rule, verdict }) =>
        !(rule === "policy" && verdict === "accept") && verdict !== "jump" && verdict !== "goto",
    )
    .map(({ chain, rule, verdict }): Hop => {
      const text = `${rule === "policy" ? "policy" : rule}: ${verdict}`;
      return verdict === "drop" || verdict === "reject"
        ? stop(chain, text, remedyFor(chain, rule))
        : pass(chain, text);
    });
  if (outcome === "answered") return [...rules, pass("probe", "answered")];
  if (outcome === "refused")
    return [
      ...rules,
      stop("probe", "it arrived, and was refused", "nobody listens on that port there, or a rule rejects it"),
    ];
  return [
    ...rules,
    isExplained || rules.some(({ verdict }) => verdict === "stop")
      ? { at: "probe", text: "no answer", verdict: "unknown" }
      : stop(
          "probe",
          "no answer",
          "no rule of this host drops it: look at the target's own rules, and at the way back (netctl trace the other way round)",
        ),
  ];
}

/** What a rule of ours means; another program's is named. */
function remedyFor(chain: string, rule: string): string {
  if (!chain.startsWith("inet netctl ") && !chain.startsWith("bridge netctl "))
    return `another program's chain drops it: allow it there (nft list chain ${chain})`;
  if (rule.includes("@internal"))
    return "the network is internal, or the target's is: connect the container to a network that is not";
  if (rule.includes("@isolated_networks"))
    return "networks are isolated from each other: connect both containers to one network, or publish the port";
  if (rule.includes("@icc_off"))
    return "the network was created with icc=false: containers in it reach published ports alone";
  if (rule.includes("@protected"))
    return "the port is not published: from outside only published ports are reached";
  if (rule.includes("ip saddr 127") || rule.includes("ip daddr 127"))
    return "a port that is published on 127.0.0.1 is reached from the host alone";
  return "netctl inspect shows which network wants that";
}
