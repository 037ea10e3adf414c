import { formatCidr } from "#net/cidr.ts";
import type { CreatedSandbox } from "#runtime/sandbox.ts";
import { gather, type Register } from "./command.ts";
import { ExitCode, Failure, UsageFailure } from "./failure.ts";
import { writeJson } from "./io.ts";
import { findNetwork } from "./network-listing.ts";
import {
  attachmentFor,
  type NetworkChoice,
  parseAddress,
  parseMacFlag,
  parseNetworkChoice,
} from "./sandbox-network.ts";
import type { World } from "./world.ts";

export interface SandboxCreateFlags {
  readonly network: readonly string[];
  readonly ip?: string;
  readonly ip6?: string;
  readonly macAddress?: string;
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
      "--network <name[:ip=…,mac=…,interface_name=…]>",
      "network to attach to; several become eth0, eth1 … in order; none means loopback only",
      gather,
      [],
    )
    .option("--ip <address>", "IPv4 address, where there is one network")
    .option("--ip6 <address>", "IPv6 address, where there is one network")
    .option("--mac-address <mac>", "MAC address, where there is one network")
    .option("--json", "print what was made as JSON")
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
  const attachments = await Promise.all(
    choices.map(async (choice, index) => {
      const { configured } = await findNetwork(world, choice.network);
      return attachmentFor(choice, configured.list, index);
    }),
  );
  const names = attachments.map(({ ifName }) => ifName);
  const repeated = names.find((ifName, index) => names.indexOf(ifName) !== index || ifName === "lo");
  if (repeated !== undefined)
    throw new Failure(`Cannot create sandbox ${name}: interface name ${repeated} is used twice`);
  const created = await world.sandboxes.create(name, attachments);
  if (flags.json === true) writeJson(world.io, describe(created));
  else world.io.stdout(`${created.containerId}\n`);
  return ExitCode.Ok;
}

function chooseNetworks(flags: SandboxCreateFlags): readonly NetworkChoice[] {
  const choices = flags.network.map(parseNetworkChoice);
  const isNone = choices.some(({ network }) => network === "none");
  if (isNone && choices.length > 1)
    throw new UsageFailure("Cannot use --network none together with another network");
  const ips = [
    ...(flags.ip === undefined ? [] : [parseAddress(flags.ip, `--ip ${flags.ip}`)]),
    ...(flags.ip6 === undefined ? [] : [parseAddress(flags.ip6, `--ip6 ${flags.ip6}`)]),
  ];
  const networks = isNone ? [] : choices;
  if (ips.length === 0 && flags.macAddress === undefined) return networks;
  const [only] = networks;
  if (only === undefined || networks.length > 1) {
    const flag = ips.length > 0 ? "--ip" : "--mac-address";
    throw new UsageFailure(
      `Cannot use ${flag} with ${networks.length} networks; write --network NAME:ip=…,mac=…`,
    );
  }
  const mac =
    flags.macAddress === undefined
      ? only.mac
      : parseMacFlag(flags.macAddress, `--mac-address ${flags.macAddress}`);
  return [{ ...only, ips: [...only.ips, ...ips], ...(mac === undefined ? {} : { mac }) }];
}

function describe({ name, containerId, netns, createdAt, attachments, results }: CreatedSandbox) {
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
  };
}
