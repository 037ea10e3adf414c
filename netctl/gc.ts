import { formatIp } from "#net/ip.ts";
import type { KnownAttachment } from "#runtime/attachments.ts";
import { gcNetworkList } from "#runtime/chain.ts";
import type { Register } from "./command.ts";
import { describeError, ExitCode } from "./failure.ts";
import { forgetAttachment } from "./forget-attachment.ts";
import { writeJson } from "./io.ts";
import { defaultGraceMs, type KnownLease, leakedStates, readAddressUse } from "./ipam/address-use.ts";
import { attachmentsOf, findNetwork, listNetworks, type Network } from "./network/listing.ts";
import { renderTable } from "./table.ts";
import type { World } from "./world.ts";

export interface GcFlags {
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** Something that a container which is gone has left. */
interface Leftover {
  readonly network: string;
  readonly what: "attachment" | "address";
  readonly containerId: string;
  readonly ifName: string;
  /** Of an address; else empty. */
  readonly address: string;
}

export const registerGc: Register = (parent, invoke) => {
  parent
    .command("gc")
    .summary("Clear away what containers that are gone have left")
    .description(
      "Detach every container whose namespace is gone, and have the plugins collect what else nobody uses (CNI's GC): links, rules, addresses. Containers that are there, and those of which nobody knows whether they are, keep everything. Networks that forbid it (disableGC) are passed over.",
    )
    .argument("[network...]", "networks; all if left out")
    .option("-n, --dry-run", "only say what would be cleared away")
    .option("--json", "print JSON: docs/netctl.md")
    .addHelpText("after", "\nExamples:\n  netctl gc --dry-run\n  netctl gc web")
    .action((networks: readonly string[], flags: GcFlags, command) =>
      invoke(command, (world) => gc(networks, flags, world)),
    );
};

export async function gc(names: readonly string[], flags: GcFlags, world: World): Promise<ExitCode> {
  const { dryRun = false } = flags;
  const networks =
    names.length === 0
      ? await listNetworks(world)
      : await Promise.all(names.map((name) => findNetwork(world, name)));
  const collected: Leftover[] = [];
  const skipped: string[] = [];
  let exitCode: ExitCode = ExitCode.Ok;
  for (const network of networks) {
    if (network.configured.list.disableGc) {
      skipped.push(network.name);
      continue;
    }
    const { leftovers, failures } = await collect(network, dryRun, world);
    collected.push(...leftovers);
    for (const failure of failures) world.io.stderr(`netctl: ${describeError(failure)}\n`);
    if (failures.length > 0) exitCode = ExitCode.Failure;
  }
  if (flags.json === true) {
    writeJson(world.io, { schema: "netctl.gc/1", dryRun, collected, skipped });
    return exitCode;
  }
  for (const name of skipped) world.io.stderr(`netctl: warning: network ${name} forbids it ("disableGC")\n`);
  if (collected.length > 0) {
    const rows = collected.map(({ network, what, address, containerId, ifName }) => [
      network,
      what,
      address,
      containerId.slice(0, 12),
      ifName,
    ]);
    world.io.stdout(renderTable(["NETWORK", "WHAT", "ADDRESS", "CONTAINER", "INTERFACE"], rows));
  }
  return exitCode;
}

async function collect(network: Network, dryRun: boolean, world: World) {
  const { name, configured } = network;
  const attachments = await attachmentsOf(world, name);
  const use = await readAddressUse(network, world, defaultGraceMs);
  const leases = use?.leases ?? [];
  // Where nobody recorded the namespace, nobody can say that it is gone.
  const gone = attachments.filter(({ isAlive, netns }) => !isAlive && netns !== "");
  const lost = leases.filter(({ state }) => leakedStates.includes(state) && state !== "gone");
  const leftovers = [
    ...gone.map((each) => attachmentLeft(name, each)),
    ...lost.map((each) => addressLeft(name, each)),
  ];
  const failures: unknown[] = [];
  if (dryRun) return { leftovers, failures };
  const attempt = async (act: () => Promise<unknown>) => {
    await act().catch((error: unknown) => failures.push(error));
  };
  for (const attachment of gone) await attempt(() => forgetAttachment(network, attachment, world));
  const owners = leases.flatMap(({ owner, state }) =>
    owner === undefined || leakedStates.includes(state) ? [] : [owner],
  );
  const valid = [
    ...attachments.filter((each) => !gone.includes(each)),
    ...owners.map(({ containerId, ifName = "eth0" }) => ({ containerId, ifName })),
  ].map(({ containerId, ifName }) => ({ containerId, ifName }));
  await attempt(() => gcNetworkList(configured.list, valid, world.chain));
  return { leftovers, failures };
}

function attachmentLeft(network: string, { containerId, ifName }: KnownAttachment): Leftover {
  return { network, what: "attachment", containerId, ifName, address: "" };
}

function addressLeft(network: string, { ip, owner }: KnownLease): Leftover {
  return {
    network,
    what: "address",
    containerId: owner?.containerId ?? "",
    ifName: owner?.ifName ?? "",
    address: formatIp(ip),
  };
}
