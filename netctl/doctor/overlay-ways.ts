import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Engine } from "#engine/engine.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { findRoute, RouteType } from "#kernel/route.ts";
import { type Cidr, firstIp } from "#net/cidr.ts";
import { compareIp, formatIp, type IpAddress } from "#net/ip.ts";
import { withCluster } from "#netctl/cluster.ts";
import { describeError } from "#netctl/failure.ts";
import type { World } from "#netctl/world.ts";
import { findProgram } from "#nftables/program.ts";
import type { AgentStatus } from "#overlay/agent.ts";
import { type BulkOutcome, takeBulk } from "#overlay/bulk-request.ts";
import { listOf } from "#overlay/cluster-list.ts";
import { overhead } from "#overlay/desired.ts";
import { wireguardOverhead } from "#overlay/encryption/end.ts";
import type { Keys } from "#overlay/keys.ts";
import type { HostRecord } from "#overlay/record.ts";
import { deviceOf } from "#overlay/self.ts";
import { ClusterView } from "#overlay/view.ts";
import type { Finding } from "./finding.ts";

const run = promisify(execFile);

/** Of a large cluster so many are tried, chosen at random, so many at once. */
const maxHosts = 32;
const atOnce = 8;
const sizesAtOnce = 16;
/** Some thousand packets, in segments that the card cuts where it can. */
const bulkBytes = 4 * 1024 * 1024;
/** IP and ICMP before what ping sends. */
const pingOverhead = { 4: 28, 6: 48 } as const;

/** From this host to another one, through the tunnel of a network that both are in. */
interface Way {
  readonly host: HostRecord;
  readonly network: string;
  readonly isEncrypted: boolean;
  readonly mtu: number;
  /** Addresses of the tunnel: here, and there. The other host's kernel answers for it, whatever runs there. */
  readonly from: IpAddress;
  readonly to: IpAddress;
  /** Here, and there. */
  readonly underlay: readonly [IpAddress, IpAddress];
}

interface Means {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly view: ClusterView;
  readonly namespace: NetworkNamespace;
  readonly udpPort: number;
}

/** Sends packets to the other hosts that are there: short ones, the longest ones uncut, and some megabytes by TCP. */
export async function tryWays(
  world: World,
  namespace: NetworkNamespace,
  { agent, except }: { readonly agent: AgentStatus; readonly except: ReadonlySet<string> },
): Promise<readonly Finding[]> {
  return await withCluster(world, async ({ keys }, engine, { hostId, engine: { kind } }) => {
    // A cluster of one host has no ways.
    if (kind === "local") return [];
    const view = new ClusterView(keys);
    const snapshot = await engine.list(keys.prefix);
    view.replace(listOf(keys, snapshot));
    const live = new Set(snapshot.entries.map(({ key }) => key));
    const networks = agent.networks.filter(({ name }) => !except.has(name));
    const ways = waysFrom(view, hostId, networks).filter(({ host }) => live.has(keys.live(host.id)));
    const means = { engine, keys, view, namespace, udpPort: view.cluster?.udpPort ?? 4789 };
    const chosen = ways.length > maxHosts ? shuffled(ways).slice(0, maxHosts) : ways;
    const findings: Finding[] = [];
    const broken: (readonly [Way, BrokenBulk])[] = [];
    for (let at = 0; at < chosen.length; at += atOnce) {
      const ways = chosen.slice(at, at + atOnce);
      const tried = await Promise.all(ways.map(async (way) => [way, await tryWay(way, means)] as const));
      for (const [way, { finding, bulk }] of tried) {
        if (finding) findings.push(finding);
        if (bulk) broken.push([way, bulk]);
      }
    }
    findings.push(...(await tryAlone(broken, means)));
    if (chosen.length < ways.length)
      findings.push({
        id: "overlay-ways-sampled",
        severity: "note",
        subject: "",
        evidence: `the ways to ${chosen.length} of ${ways.length} hosts were tried, chosen at random`,
        remedy: "run it again, and on other hosts",
      });
    return findings;
  });
}

/** One for each other host that has addresses in a network of this one, for each kind of network that both are in. */
function waysFrom(view: ClusterView, hostId: string, networks: AgentStatus["networks"]): readonly Way[] {
  const self = view.hosts.get(hostId);
  if (!self) return [];
  const lowest = (network: string, id: string): IpAddress | undefined =>
    [...view.blocks.values()]
      .filter((block) => block.network === network && block.record.host === id)
      .map(({ record }): Cidr => record.cidr)
      .sort((a, b) => a.address.family - b.address.family || compareIp(a.address, b.address))
      .map(firstIp)[0];
  const found = new Map<string, Way>();
  for (const { name, mtu, mode, encrypted, state } of networks) {
    if (state !== "active") continue;
    const from = lowest(name, hostId);
    for (const host of view.hosts.values()) {
      const to = host.id === hostId ? undefined : lowest(name, host.id);
      const family = self.underlay.v4 && host.underlay.v4 ? "v4" : "v6";
      const [here, there] = [self.underlay[family], host.underlay[family]];
      if (!from || !to || from.family !== to.family || !here || !there) continue;
      const key = `${host.id} ${encrypted} ${mode}`;
      if (!found.has(key))
        found.set(key, {
          host,
          network: name,
          isEncrypted: encrypted,
          mtu,
          from,
          to,
          underlay: [here, there],
        });
    }
  }
  return [...found.values()];
}

type BrokenBulk = Extract<BulkOutcome, { kind: "stalled" | "damaged" }>;

/**
 * Streams that did not arrive beside others, once more: a slow host or wire is no broken one. The first that fails alone,
 * too, speaks for those behind it.
 */
async function tryAlone(
  broken: readonly (readonly [Way, BrokenBulk])[],
  means: Means,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const [way, bulk] of broken) {
    const outcome = findings.length > 0 ? bulk : await askForBulk(way, means);
    if (typeof outcome !== "string" && (outcome.kind === "stalled" || outcome.kind === "damaged"))
      findings.push(explainBulk(way, outcome, means));
  }
  return findings;
}

/** @returns what is wrong, or a stream that did not arrive beside others */
async function tryWay(
  way: Way,
  means: Means,
): Promise<{ readonly finding?: Finding; readonly bulk?: BrokenBulk }> {
  const { host, network, mtu, to } = way;
  const { namespace } = means;
  const route = findRoute(namespace, { destination: to });
  // In a segment that begins with it, before Linux 5.14: nobody can be reached by a subnet's first address.
  if (route.found && route.route.type === RouteType.broadcast)
    return {
      finding: {
        id: "overlay-way-untried",
        severity: "note",
        subject: network,
        evidence: `the way to ${host.name} in network ${network} can't be tried: this kernel takes ${formatIp(to)} for a broadcast address`,
        remedy: `netctl doctor overlay on ${host.name} tries the same way, there and back`,
      },
    };
  if (!(await answers(to, { tries: 4 }))) return { finding: await explainSilence(way, means) };
  const longest = mtu - pingOverhead[to.family];
  if (!(await answers(to, { bytes: longest, tries: 3 }))) return { finding: await explainLength(way, means) };
  const outcome = await askForBulk(way, means);
  if (typeof outcome === "string" || outcome.kind === "unasked")
    return {
      finding: {
        id: "overlay-bulk-untried",
        severity: "note",
        subject: network,
        evidence: `${host.name} answers by ${nameOf(way)}, and its netd sends nothing${typeof outcome === "string" ? `: ${outcome}` : " when asked for some megabytes"}`,
        remedy: `netctl cluster status on ${host.name} says whether its agent runs`,
      },
    };
  return outcome.kind === "whole" ? {} : { bulk: outcome };
}

/** @returns also why it could not be asked for */
async function askForBulk(way: Way, { engine, keys }: Means): Promise<BulkOutcome | string> {
  return await takeBulk({
    engine,
    keys,
    host: way.host.id,
    at: way.to,
    from: way.from,
    bytes: bulkBytes,
  }).catch((error: unknown) => describeError(error));
}

const nameOf = ({ isEncrypted }: Way) => (isEncrypted ? "WireGuard" : "VXLAN");

async function explainSilence(way: Way, { udpPort }: Means): Promise<Finding> {
  const { host, network, isEncrypted, underlay } = way;
  const [, there] = underlay;
  const ports = isEncrypted ? (host.wireguard?.keys.map(({ port }) => port).join(" and ") ?? "?") : udpPort;
  if (!(await answers(there, { tries: 3 })))
    return {
      id: "overlay-host-silent",
      severity: "error",
      subject: host.name,
      evidence: `${host.name} does not answer: neither at ${formatIp(there)} nor by ${nameOf(way)}, though it tells the engine that it is there`,
      remedy: `look at the way from ${formatIp(underlay[0])} to ${formatIp(there)}: ip route get, and the firewalls between; UDP ${ports} has to pass in both directions`,
    };
  return {
    id: "overlay-port",
    severity: "error",
    subject: host.name,
    evidence: `${host.name} answers at ${formatIp(there)}, and nothing comes by ${nameOf(way)} in network ${network}: UDP ${ports} is dropped on the way, there or back`,
    remedy: `let UDP ${ports} pass between ${formatIp(underlay[0])} and ${formatIp(there)} in both directions: security groups, firewalls of the hosts; then netctl doctor overlay on ${host.name}`,
  };
}

async function explainLength(way: Way, { namespace }: Means): Promise<Finding> {
  const { host, network, mtu, to, underlay } = way;
  const around = pingOverhead[to.family];
  // What does and does not pass: several sizes at once, as silence takes its time.
  let [good, bad] = [0, mtu - around];
  let isTold = false;
  while (bad - good > 1) {
    const step = Math.max(1, Math.ceil((bad - good) / (sizesAtOnce + 1)));
    const sizes: number[] = [];
    for (let bytes = good + step; bytes < bad; bytes += step) sizes.push(bytes);
    const results = await Promise.all(sizes.map((bytes) => ping(to, { bytes, tries: 3 })));
    isTold ||= results.some((result) => result.isTooLong);
    const passing = sizes.filter((_, index) => results[index]?.isAnswered);
    good = Math.max(good, ...passing);
    bad = Math.min(bad, ...sizes.filter((bytes) => bytes > good));
  }
  const passes = good + around;
  const wire = passes + overheadOf(way);
  const device = deviceNameOf(namespace, underlay[0]);
  return {
    id: "overlay-path-mtu",
    severity: "error",
    subject: host.name,
    evidence: `to ${host.name}, packets of up to ${passes} bytes arrive, and containers of network ${network} send up to ${mtu}: the way takes ${wire} bytes${isTold ? "" : ", and drops longer ones without a word"}`,
    remedy: `ip link set ${device} mtu ${wire}, on the hosts behind that way: the networks follow within seconds; or raise what the way takes to ${wire + mtu - passes}`,
  };
}

/** What the tunnel adds to a packet of a container. */
function overheadOf({ isEncrypted, underlay: [{ family }] }: Way): number {
  return isEncrypted ? overhead[6] + wireguardOverhead[family] : overhead[family];
}

function explainBulk(way: Way, outcome: BrokenBulk, { namespace }: Means): Finding {
  const { host, network, underlay } = way;
  const device = deviceNameOf(namespace, underlay[0]);
  const seen =
    outcome.kind === "damaged"
      ? `what came had been damaged on the way`
      : outcome.isSilent
        ? `nothing came any more after ${outcome.received} of ${bulkBytes} bytes`
        : `${outcome.received} of ${bulkBytes} bytes came in ${(outcome.ms / 1000).toFixed(0)} seconds`;
  return {
    id: "overlay-bulk",
    severity: "error",
    subject: host.name,
    evidence: `packets of any length reach ${host.name} and come back by ${nameOf(way)}, and of a TCP stream in network ${network} ${seen}: as where a network card computes checksums of tunnels wrongly, or cuts their segments`,
    remedy: `ethtool -K ${device} tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off, on both hosts, then this again; if that does not help, ethtool -K ${device} tx off rx off, and look for loss by ip -s link`,
  };
}

function deviceNameOf(namespace: NetworkNamespace, ip: IpAddress): string {
  const ifindex = deviceOf(namespace, ip);
  return (ifindex === undefined ? undefined : readLink(namespace, ifindex)?.name) ?? "DEVICE";
}

interface PingOptions {
  /** What is sent; 56 as ping has it. Never cut. */
  readonly bytes?: number;
  readonly tries: number;
}

const answers = async (to: IpAddress, options: PingOptions) =>
  (await ping(to, { ...options, tries: 1 })).isAnswered || (await ping(to, options)).isAnswered;

/** So many packets, uncut, each with a second of patience. */
async function ping(
  to: IpAddress,
  { bytes = 56, tries }: PingOptions,
): Promise<{ readonly isAnswered: boolean; readonly isTooLong: boolean }> {
  const counts = ["-c", String(tries), "-i", "0.2", "-W", "1", "-s", String(bytes)];
  try {
    await run(findProgram("ping"), ["-n", "-M", "do", ...counts, formatIp(to)]);
    return { isAnswered: true, isTooLong: false };
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: unknown; stdout?: string; stderr?: string };
    // 1: no answer; 2: not sent.
    if (code !== 1 && code !== 2) throw error;
    return { isAnswered: false, isTooLong: /too long|too big|frag needed/i.test(`${stdout}${stderr}`) };
  }
}

function shuffled<T>(items: readonly T[]): readonly T[] {
  return items
    .map((item) => [Math.random(), item] as const)
    .sort(([a], [b]) => a - b)
    .map(([, item]) => item);
}
