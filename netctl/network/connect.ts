import { gather, type Register } from "#netctl/command.ts";
import { ExitCode } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { interfacePrefix, refuseOnDefault, warnUnpublished } from "#netctl/sandbox/create.ts";
import {
  attachmentFor,
  type NetworkChoice,
  parseAddress,
  parseAlias,
  parseMacFlag,
  parseNetworkChoice,
  parsePriority,
} from "#netctl/sandbox/network.ts";
import type { World } from "#netctl/world.ts";
import type { ChangedSandbox } from "#runtime/sandbox-changes.ts";
import { networkForUse } from "./builtin.ts";

export interface NetworkConnectFlags {
  readonly ip?: string;
  readonly ip6?: string;
  readonly macAddress?: string;
  readonly alias: readonly string[];
  readonly gwPriority?: string;
  readonly driverOpt: readonly string[];
  readonly json?: boolean;
}

export const registerNetworkConnect: Register = (parent, invoke) => {
  parent
    .command("connect")
    .summary("Connect a sandbox to a network")
    .description(
      "Connect a sandbox to one more network while it runs. The default gateway is chosen anew, and the published ports go where it goes.",
    )
    .argument("<network>", "name or id of the network")
    .argument("<sandbox>", "name of the sandbox")
    .option("--ip <address>", "IPv4 address")
    .option("--ip6 <address>", "IPv6 address")
    .option("--mac-address <mac>", "MAC address")
    .option("--alias <name>", "name for the others in the network", gather, [])
    .option(
      "--gw-priority <number>",
      "the network with the highest one has the default gateway; 0 by default",
    )
    .option(
      "--driver-opt <key=value>",
      "com.docker.network.endpoint.ifname: name of the interface",
      gather,
      [],
    )
    .option("--json", "print the sandbox's attachments and ports as JSON")
    .addHelpText(
      "after",
      `
Examples:
  netctl network connect back web
  netctl network connect --ip 10.77.0.9 --alias database back db
  netctl network connect --gw-priority 1 front web`,
    )
    .action((network: string, sandbox: string, flags: NetworkConnectFlags, command) =>
      invoke(command, (world) => networkConnect(network, sandbox, flags, world)),
    );
};

/** Prints nothing, as Docker. */
export async function networkConnect(
  name: string,
  sandbox: string,
  flags: NetworkConnectFlags,
  world: World,
): Promise<ExitCode> {
  const settings = flags.driverOpt.map((text) => `driver-opt=${text}`);
  const options = parseNetworkChoice([`name=${name}`, ...settings].join(","));
  const choice: NetworkChoice = {
    ...options,
    ips: [
      ...(flags.ip === undefined ? [] : [parseAddress(flags.ip, `--ip ${flags.ip}`)]),
      ...(flags.ip6 === undefined ? [] : [parseAddress(flags.ip6, `--ip6 ${flags.ip6}`)]),
    ],
    aliases: flags.alias.map((alias) => parseAlias(alias, `--alias ${alias}`)),
    gatewayPriority:
      flags.gwPriority === undefined
        ? 0
        : parsePriority(flags.gwPriority, `--gw-priority ${flags.gwPriority}`),
    ...(flags.macAddress === undefined
      ? {}
      : { mac: parseMacFlag(flags.macAddress, `--mac-address ${flags.macAddress}`) }),
  };
  await world.sandboxes.get(sandbox);
  const network = await networkForUse(name, world);
  refuseOnDefault(choice, network);
  const attachment = attachmentFor(choice, network.configured.list, "");
  report(await world.sandboxes.connect(sandbox, attachment, interfacePrefix(network)), flags, world);
  return ExitCode.Ok;
}

export function report(changed: ChangedSandbox, flags: { readonly json?: boolean }, world: World): void {
  warnUnpublished(changed.unpublished, world);
  if (flags.json !== true) return;
  const { name, containerId, attachments, ports } = changed;
  writeJson(world.io, {
    name,
    containerId,
    attachments: attachments.map(({ network, ifName, gatewayPriority }) => ({
      network,
      ifName,
      gatewayPriority,
    })),
    ports,
  });
}
