import { formatIp, tryParseIp } from "#net/ip.ts";
import type { Register } from "#netctl/command.ts";
import { ExitCode, Failure } from "#netctl/failure.ts";
import { writeJson } from "#netctl/io.ts";
import { findNetwork, listNetworks } from "#netctl/network/listing.ts";
import { renderTable } from "#netctl/table.ts";
import type { World } from "#netctl/world.ts";
import type { Sandbox } from "#runtime/sandbox.ts";
import { type AddressUse, type KnownLease, readAddressUse } from "./address-use.ts";

export interface IpamShowFlags {
  readonly json?: boolean;
}

export const registerIpamShow: Register = (parent, invoke) => {
  parent
    .command("show")
    .summary("Show who has which address")
    .description(
      "Show the addresses of a network, or one address in all networks, with their owners and whether those are still there.",
    )
    .argument("[name]", "a network, or an address; every network if left out")
    .option("--json", "print JSON")
    .addHelpText("after", "\nExamples:\n  netctl ipam show web\n  netctl ipam show 10.77.0.9")
    .action((name: string | undefined, flags: IpamShowFlags, command) =>
      invoke(command, (world) => ipamShow(name, flags, world)),
    );
};

/** What is shown of an address. */
interface AddressRow {
  readonly network: string;
  readonly address: string;
  /** A lease's state; `gateway` and `reserved` for those that no container gets. */
  readonly state: string;
  readonly containerId: string;
  /** Null where it is no sandbox of netctl. */
  readonly sandbox: string | null;
  readonly ifName: string;
  readonly netns: string;
  /** ISO 8601; empty where it is none's. */
  readonly since: string;
  /** Of an auxiliary address: whose it is by its name. */
  readonly name: string;
}

export async function ipamShow(
  name: string | undefined,
  flags: IpamShowFlags,
  world: World,
): Promise<ExitCode> {
  const ip = name === undefined ? undefined : tryParseIp(name);
  const networks =
    name === undefined || ip !== undefined ? await listNetworks(world) : [await findNetwork(world, name)];
  const uses = await Promise.all(networks.map((network) => readAddressUse(network, world)));
  const known = uses.filter((use): use is AddressUse => use !== undefined);
  if (known.length === 0 && name !== undefined && ip === undefined) {
    throw new Failure(`Cannot show the addresses of network ${name}: host-local does not give them out`);
  }
  const sandboxes = await world.sandboxes.list();
  const all = known.flatMap((use) => describe(use, sandboxes));
  const rows = ip === undefined ? all : all.filter(({ address }) => address === formatIp(ip));
  if (flags.json === true) writeJson(world.io, rows);
  else {
    const cells = rows.map((row) => [
      row.network,
      row.address,
      row.state,
      row.sandbox ?? (row.containerId === "" ? row.name : row.containerId.slice(0, 12)),
      row.ifName,
      row.since,
    ]);
    world.io.stdout(renderTable(["NETWORK", "ADDRESS", "STATE", "OWNER", "INTERFACE", "SINCE"], cells));
  }
  if (ip === undefined || rows.length > 0) return ExitCode.Ok;
  throw new Failure(`no network has given out ${formatIp(ip)}`);
}

const nobody = { containerId: "", sandbox: null, ifName: "", netns: "", since: "", name: "" };

function describe(
  { network, sets, leases }: AddressUse,
  sandboxes: readonly Sandbox[],
): readonly AddressRow[] {
  const gateways = new Set(sets.flatMap((set) => set.map(({ gateway }) => formatIp(gateway))));
  const aux = network.notes?.subnets.flatMap(({ auxAddresses }) => Object.entries(auxAddresses)) ?? [];
  return [
    ...[...gateways].map((address) => ({ ...nobody, network: network.name, address, state: "gateway" })),
    ...aux.map(([name, address]) => ({ ...nobody, network: network.name, address, state: "reserved", name })),
    ...leases.map((lease) => describeLease(network.name, lease, sandboxes)),
  ];
}

function describeLease(
  network: string,
  { ip, owner, state, givenAtMs, attachments }: KnownLease,
  sandboxes: readonly Sandbox[],
): AddressRow {
  const containerId = owner?.containerId ?? "";
  return {
    network,
    address: formatIp(ip),
    state,
    containerId,
    sandbox: sandboxes.find((each) => each.containerId === containerId)?.name ?? null,
    ifName: owner?.ifName ?? "",
    netns: attachments.find(({ netns }) => netns !== "")?.netns ?? "",
    since: givenAtMs === undefined ? "" : new Date(givenAtMs).toISOString(),
    name: "",
  };
}
