import { formatCidr } from "#net/cidr.ts";
import { gather, type Register } from "#netctl/command.ts";
import { ExitCode, Failure, UsageFailure } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { networkForUse } from "#netctl/network/builtin.ts";
import type { Network } from "#netctl/network/listing.ts";
import { portText } from "#netctl/port-text.ts";
import type { World } from "#netctl/world.ts";
import type { PortRequest } from "#runtime/port-request.ts";
import type { CreatedSandbox } from "#runtime/sandbox.ts";
import type { SandboxAttachment } from "#runtime/sandbox-record.ts";
import {
  attachmentFor,
  type NetworkChoice,
  parseAddress,
  parseAlias,
  parseMacFlag,
  parseNetworkChoice,
} from "./network.ts";
import { parseExpose, parsePublish } from "./port-flag.ts";
import { parseSandboxSettings } from "./settings-flags.ts";

export interface SandboxCreateFlags {
  readonly network: readonly string[];
  readonly ip?: string;
  readonly ip6?: string;
  readonly macAddress?: string;
  readonly networkAlias: readonly string[];
  readonly publish: readonly string[];
  readonly publishAll?: boolean;
  readonly expose: readonly string[];
  readonly hostname?: string;
  readonly dns: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly dnsOption: readonly string[];
  readonly addHost: readonly string[];
  readonly sysctl: readonly string[];
  readonly label: readonly string[];
  readonly json?: boolean;
}

export const registerSandboxCreate: Register = (parent, invoke) => {
  parent
    .command("create")
    .summary("Create a sandbox")
    .description(
      "Create a sandbox: a network namespace with a name, attached to networks as a container would be.",
    )
    .argument("<name>", "name of the sandbox; its host name too")
    .option(
      "--network <name[:ip=…,mac=…,alias=…,gw-priority=…,interface_name=…]>",
      "network to attach to; several become eth0, eth1 … in order; none means loopback only",
      gather,
      [],
    )
    .option("--ip <address>", "IPv4 address, where there is one network")
    .option("--ip6 <address>", "IPv6 address, where there is one network")
    .option("--mac-address <mac>", "MAC address, where there is one network")
    .option("--network-alias <name>", "name for the others in the network, where there is one", gather, [])
    .option(
      "-p, --publish <[[ip:]port:]port[/protocol]>",
      "publish a port by the host's addresses",
      gather,
      [],
    )
    .option("-P, --publish-all", "publish every exposed port at a free one of the host")
    .option("--expose <port[/protocol]>", "port for --publish-all", gather, [])
    .option("--hostname <name>", "host name of the sandbox; its own name if left out")
    .option("--dns <address>", "server that names of no container are asked of", gather, [])
    .option("--dns-search <domain>", "search domain; . for none", gather, [])
    .option("--dns-option <option>", "option of resolv.conf", gather, [])
    .option(
      "--add-host <name:address>",
      "line of its /etc/hosts; host-gateway as address is the host",
      gather,
      [],
    )
    .option("--sysctl <key=value>", "sysctl of its network: net.*", gather, [])
    .option("--label <key=value>", "note that is kept with the sandbox", gather, [])
    .option("--json", "print what was made as JSON")
    .addHelpText(
      "after",
      `
Examples:
  netctl sandbox create web --network front -p 8080:80 -p 127.0.0.1:8443:443
  netctl sandbox create db --network back:ip=10.77.0.9,alias=database
  netctl sandbox create proxy --network front:gw-priority=1 --network back -p 53:53/udp
  netctl sandbox create app --network name=front,ip=10.77.0.20,alias=api --hostname app1
  netctl sandbox create crawler --network front --dns 9.9.9.9 --add-host cache:10.77.0.9 --sysctl net.ipv4.ip_local_port_range="10000 65000"
  netctl sandbox create tools --network host`,
    )
    .action((name: string, flags: SandboxCreateFlags, command) =>
      invoke(command, (world) => sandboxCreate(name, flags, world)),
    );
};

/** Prints the container id. */
export async function sandboxCreate(
  name: string,
  flags: SandboxCreateFlags,
  world: World,
): Promise<ExitCode> {
  const choices = chooseNetworks(flags);
  const asked = choosePorts(flags, choices);
  const settings = parseSandboxSettings(flags);
  // As Docker does: there is nothing between the host and the container.
  const isOnHost = choices.some(({ network }) => network === "host");
  if (isOnHost && asked.length > 0) {
    world.io.stderr("netctl: warning: published ports are discarded when using host network mode\n");
  }
  const [sysctl] = flags.sysctl;
  if (isOnHost && sysctl !== undefined) {
    throw new UsageFailure(`Cannot use --sysctl ${sysctl} with --network host: it would be set for the host`);
  }
  const ports = isOnHost ? [] : asked;
  const attachments: SandboxAttachment[] = [];
  for (const [index, choice] of choices.entries()) {
    const network = await networkForUse(choice.network, world);
    refuseOnDefault(choice, network);
    attachments.push(attachmentFor(choice, network.configured.list, `${interfacePrefix(network)}${index}`));
  }
  const names = attachments.map(({ ifName }) => ifName);
  const repeated = names.find((ifName, index) => names.indexOf(ifName) !== index || ifName === "lo");
  if (repeated !== undefined)
    throw new Failure(`Cannot create sandbox ${name}: interface name ${repeated} is used twice`);
  const created = await world.sandboxes.create(name, attachments, ports, settings);
  warnUnpublished(created.unpublished, world);
  if (flags.json === true) writeJson(world.io, describe(created));
  else world.io.stdout(`${created.containerId}\n`);
  return ExitCode.Ok;
}

/** What a network's option says of the names of interfaces inside: `eth` where it says nothing. */
export function interfacePrefix({ notes }: Network): string {
  return notes?.options["com.docker.network.container_iface_prefix"] ?? "eth";
}

/** As on Docker's default bridge. @throws {UsageFailure} */
export function refuseOnDefault({ network, ips, aliases }: NetworkChoice, { notes }: Network): void {
  if (network !== "bridge" || notes === undefined) return;
  if (ips.length > 0) {
    throw new UsageFailure("user specified IP address is supported on user defined networks only");
  }
  if (aliases.length > 0) {
    throw new UsageFailure("network-scoped alias is supported only for containers in user defined networks");
  }
}

export function warnUnpublished(unpublished: readonly PortRequest[], world: World): void {
  if (unpublished.length === 0) return;
  const texts = unpublished.map(portText).join(", ");
  world.io.stderr(
    `netctl: warning: not published: ${texts}: no network of the sandbox leads outside and has portmap in its configuration\n`,
  );
}

function chooseNetworks(flags: SandboxCreateFlags): readonly NetworkChoice[] {
  const choices = flags.network.map(parseNetworkChoice);
  for (const alone of ["none", "host"]) {
    if (choices.length > 1 && choices.some(({ network }) => network === alone))
      throw new UsageFailure(`Cannot use --network ${alone} together with another network`);
  }
  const repeated = choices.find(
    ({ network }, index) => choices.findIndex((each) => each.network === network) < index,
  );
  if (repeated !== undefined) {
    throw new UsageFailure(`Cannot use --network ${repeated.network} twice: it is the same network`);
  }
  const ips = [
    ...(flags.ip === undefined ? [] : [parseAddress(flags.ip, `--ip ${flags.ip}`)]),
    ...(flags.ip6 === undefined ? [] : [parseAddress(flags.ip6, `--ip6 ${flags.ip6}`)]),
  ];
  const aliases = flags.networkAlias.map((alias) => parseAlias(alias, `--network-alias ${alias}`));
  const networks = choices.filter(({ network }) => network !== "none");
  const extra = [
    ...(ips.length > 0 ? ["--ip"] : []),
    ...(flags.macAddress === undefined ? [] : ["--mac-address"]),
    ...(aliases.length > 0 ? ["--network-alias"] : []),
  ];
  if (extra[0] === undefined) return networks;
  const [only] = networks;
  if (only === undefined || networks.length > 1) {
    throw new UsageFailure(
      `Cannot use ${extra[0]} with ${networks.length} networks; write --network NAME:ip=…,mac=…,alias=…`,
    );
  }
  const mac =
    flags.macAddress === undefined
      ? only.mac
      : parseMacFlag(flags.macAddress, `--mac-address ${flags.macAddress}`);
  return [
    {
      ...only,
      ips: [...only.ips, ...ips],
      aliases: [...only.aliases, ...aliases],
      ...(mac === undefined ? {} : { mac }),
    },
  ];
}

function choosePorts(flags: SandboxCreateFlags, choices: readonly NetworkChoice[]): readonly PortRequest[] {
  const published = flags.publish.flatMap(parsePublish);
  const exposed = flags.publishAll === true ? flags.expose.flatMap(parseExpose) : [];
  const isSame = (a: PortRequest, b: PortRequest) =>
    a.protocol === b.protocol && a.containerPort === b.containerPort;
  const ports = [...published, ...exposed.filter((port) => !published.some((each) => isSame(each, port)))];
  if (flags.publishAll === true && flags.expose.length === 0) {
    throw new UsageFailure(
      "Cannot use --publish-all without --expose: a sandbox has no image that says its ports",
    );
  }
  if (ports.length === 0) return ports;
  if (choices.length === 0) {
    throw new UsageFailure("Cannot publish ports without a network; give --network bridge, or one of yours");
  }
  return ports;
}

function describe({ name, containerId, netns, createdAt, attachments, results, ports }: CreatedSandbox) {
  return {
    name,
    containerId,
    netns,
    createdAt,
    attachments: attachments.map(({ network, ifName }, index) => ({
      network,
      ifName,
      mac:
        results[index]?.interfaces.find((each) => each.name === ifName && each.sandbox !== undefined)?.mac ??
        "",
      addresses: results[index]?.ips.map(({ address }) => formatCidr(address)) ?? [],
    })),
    ports,
  };
}
