import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { type NetworkList, parseConf, parseConfList } from "#cni/conflist.ts";
import { encodeResult } from "#cni/result-versions.ts";
import { errorCode } from "#machine/io-error.ts";
import { formatCidr } from "#net/cidr.ts";
import { tableName } from "#nftables/set-definition.ts";
import { sandboxContainerId } from "#runtime/network-id.ts";
import { gather, type Register } from "./command.ts";
import { describeError, ExitCode, Failure, UsageFailure } from "./failure.ts";
import { writeJson } from "./io.ts";
import { findNetwork } from "./network/listing.ts";
import { containerName, ipCommands } from "./plan/ip-text.ts";
import { newTables, nftCommands } from "./plan/nft-text.ts";
import { rehearse } from "./plan/rehearse.ts";
import {
  attachmentFor,
  type NetworkChoice,
  parseAddress,
  parseAlias,
  parseMacFlag,
} from "./sandbox/network.ts";
import { parsePublish } from "./sandbox/port-flag.ts";
import type { World } from "./world.ts";

export interface PlanFlags {
  readonly name: string;
  readonly ip: readonly string[];
  readonly ip6: readonly string[];
  readonly macAddress?: string;
  readonly networkAlias: readonly string[];
  readonly publish: readonly string[];
  readonly full?: boolean;
  readonly json?: boolean;
}

export const registerPlan: Register = (parent, invoke) => {
  parent
    .command("plan")
    .summary("Show what attaching a container to a network would do")
    .description(
      `Show what an ADD would do, as commands of ip, sysctl and nft, without doing it. The plugins carry it out in namespaces that are like this host's, and are thrown away; what they changed there is shown. ${containerName} stands for the container's namespace.`,
    )
    .argument("<conflist>", "network, or file of one that is not installed yet")
    .option(
      "--name <sandbox>",
      "name of the sandbox that it is for: names of interfaces follow from it",
      "example",
    )
    .option("--ip <address>", "IPv4 address that is asked for", gather, [])
    .option("--ip6 <address>", "IPv6 address that is asked for", gather, [])
    .option("--mac-address <mac>", "MAC address that is asked for")
    .option("--network-alias <name>", "name that is asked for", gather, [])
    .option("-p, --publish <[[ip:]port:]port[/protocol]>", "port that is to be published", gather, [])
    .option("--full", "with the rules that are the same on every host, where they are not loaded yet")
    .option("--json", "print JSON: docs/plan.md")
    .addHelpText(
      "after",
      "\nExamples:\n  netctl plan web\n  netctl plan ./10-mynet.conflist --ip 10.1.0.9 -p 8080:80\n  netctl plan web --json | jq -r '.commands[]'",
    )
    .action((conflist: string, flags: PlanFlags, command) =>
      invoke(command, (world) => plan(conflist, flags, world)),
    );
};

export async function plan(conflist: string, flags: PlanFlags, world: World): Promise<ExitCode> {
  const list = await readNetwork(conflist, world);
  const choice: NetworkChoice = {
    network: list.name,
    ips: [
      ...flags.ip.map((text) => parseAddress(text, `--ip ${text}`)),
      ...flags.ip6.map((text) => parseAddress(text, `--ip6 ${text}`)),
    ],
    aliases: flags.networkAlias.map((text) => parseAlias(text, `--network-alias ${text}`)),
    gatewayPriority: 0,
    ...(flags.macAddress === undefined
      ? {}
      : { mac: parseMacFlag(flags.macAddress, `--mac-address ${flags.macAddress}`) }),
  };
  const { ifName, args, capabilityArgs } = attachmentFor(choice, list, "eth0");
  const portMappings = flags.publish
    .flatMap(parsePublish)
    .map(({ protocol, containerPort, hostIp, hostPorts }) => {
      if (hostPorts === undefined || hostPorts.first !== hostPorts.last) {
        throw new UsageFailure(
          `Cannot plan --publish ${flags.publish.join(" ")}: which port of the host is chosen when it is published; name one`,
        );
      }
      return {
        protocol,
        containerPort,
        hostPort: hostPorts.first,
        ...(hostIp === undefined ? {} : { hostIP: hostIp }),
      };
    });
  const { aliases } = capabilityArgs;
  const target = {
    containerId: sandboxContainerId(flags.name),
    ifName,
    args,
    capabilityArgs: {
      ...capabilityArgs,
      aliases: [flags.name, ...(Array.isArray(aliases) ? aliases : [])],
      ...(portMappings.length === 0 ? {} : { portMappings }),
    },
  };
  const { change, result, containerPath } = await rehearse(list, target, world);
  const { hostBefore, hostAfter, containerBefore, containerAfter } = change;
  const isFull = flags.full === true || flags.json === true;
  const nft = nftCommands(hostBefore.ruleset, hostAfter.ruleset, isFull ? {} : { assumed: tableName });
  const inside = nftCommands(containerBefore.ruleset, containerAfter.ruleset);
  const commands = [
    ...nftCommand("nft", nft),
    ...ipCommands(change),
    ...nftCommand(`ip netns exec ${containerName} nft`, inside),
  ];
  if (flags.json === true) {
    const named = JSON.parse(
      JSON.stringify(encodeResult(result, list.cniVersion)).replaceAll(containerPath, containerName),
    ) as unknown;
    writeJson(world.io, {
      schema: "netctl.plan/1",
      network: list.name,
      containerId: target.containerId,
      ifName,
      commands,
      nft: { host: nft, container: inside },
      result: named,
    });
    return ExitCode.Ok;
  }
  const addresses = result.ips.map(({ address }) => formatCidr(address)).join(" ");
  const heading = `# ADD of ${ifName} in network ${list.name}: ${addresses === "" ? "no address" : addresses}. MAC addresses that nobody asked for are random.`;
  const loaded = newTables(hostBefore.ruleset, hostAfter.ruleset).filter((name) =>
    name.endsWith(` ${tableName}`),
  );
  const notes = isFull
    ? []
    : loaded.map((name) => `# table ${name} is loaded before: the same on every host, shown by --full`);
  world.io.stdout(`${[heading, ...notes, ...commands].join("\n")}\n`);
  return ExitCode.Ok;
}

/** For a shell, as one transaction: a here document changes nothing of what stands in it. */
function nftCommand(program: string, texts: readonly string[]): readonly string[] {
  return texts.length === 0 ? [] : [`${program} -f - <<'END'\n${texts.join("\n")}\nEND`];
}

/** A file counts before a network of that name. */
async function readNetwork(text: string, world: World): Promise<NetworkList> {
  const path = resolve(world.io.workingDirectory, text);
  let content: string;
  try {
    content = await readFile(path, "utf8");
  } catch (error) {
    const isFile = text.includes("/") || (errorCode(error) !== "ENOENT" && errorCode(error) !== "EISDIR");
    if (isFile) throw new Failure(`Cannot read ${path}: ${describeError(error)}`, { cause: error });
    return (await findNetwork(world, text)).configured.list;
  }
  return path.endsWith(".conf") ? parseConf(content) : parseConfList(content);
}
