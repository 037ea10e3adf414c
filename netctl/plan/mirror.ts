import { addAddress, readAllAddresses } from "#kernel/address.ts";
import { ensureBridge } from "#kernel/bridge.ts";
import { changeLink, type LinkDetails, listLinks, readLinkDetails, requireLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { RouteType, readAllRoutes, routeRequest } from "#kernel/route.ts";
import { readSysctl, writeSysctls } from "#kernel/sysctl.ts";
import { Undo } from "#kernel/undo.ts";
import { createVeth } from "#kernel/veth.ts";
import { hostCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { Nft } from "#nftables/nft.ts";
import { runProgram } from "#nftables/program.ts";

const sysctls = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/route_localnet"];

/**
 * Makes a namespace look like the host, as far as an ADD asks: its links but the ports of bridges, their addresses and
 * routes, the switches of forwarding, and our nftables tables with all that is in them. Bridges are bridges; any other
 * link is stood for by one end of a pair, of which the other end is set aside.
 * @param aside namespace for the other ends
 */
export async function mirrorHost(
  host: NetworkNamespace,
  stage: NetworkNamespace,
  aside: NetworkNamespace,
): Promise<void> {
  const links = listLinks(host).filter(({ name, master }) => name !== "lo" && master === undefined);
  const addresses = readAllAddresses(host);
  const isOfUse = ({ kind, ifindex }: (typeof links)[number]) =>
    kind !== "veth" || addresses.some((each) => each.ifindex === ifindex);
  changeLink(stage, parseIfName("lo"), { up: true });
  const twins = new Map<number, number>();
  for (const { ifindex } of links.filter(isOfUse)) {
    const details = readLinkDetails(host, ifindex);
    if (details === undefined) continue;
    twins.set(ifindex, await makeTwin(details, stage, aside));
  }
  for (const { ifindex, address } of addresses) {
    const twin = twins.get(ifindex);
    if (twin !== undefined) addAddress(stage, requireLink(stage, twin), address);
  }
  copyRoutes(host, stage, twins);
  writeSysctls(
    stage,
    sysctls.flatMap((key) => {
      const value = readSysctl(host, key);
      return value === undefined ? [] : [{ key, value, optional: true }];
    }),
  );
  await copyTables(host, stage);
}

/** @returns its ifindex */
async function makeTwin(
  { name, kind, mtu, mac, up, bridge }: LinkDetails,
  stage: NetworkNamespace,
  aside: NetworkNamespace,
): Promise<number> {
  const ifName = parseIfName(name);
  if (kind === "bridge") {
    const spec = { name: ifName, mtu, vlanFiltering: bridge?.vlanFiltering === true, promiscuous: false };
    await Undo.run(async (undo) => ensureBridge(stage, spec, undefined, undo));
  } else {
    createVeth(stage, { name: ifName, mtu: Math.max(mtu, 68), peer: { namespace: aside, name: ifName } });
    changeLink(aside, ifName, { up: true });
  }
  changeLink(stage, ifName, { up, ...(mac === undefined ? {} : { mac }) });
  return requireLink(stage, ifName).ifindex;
}

/** Those that lead somewhere; what the kernel makes of addresses is there already. */
function copyRoutes(
  host: NetworkNamespace,
  stage: NetworkNamespace,
  twins: ReadonlyMap<number, number>,
): void {
  const routes = readAllRoutes(host).filter(
    ({ type, table, protocol }) => type === RouteType.unicast && table === 254 && protocol !== 2,
  );
  const requests = routes.flatMap(({ family, destination, gateway, ifindex, metric }) => {
    const twin = twins.get(ifindex ?? 0);
    if (twin === undefined) return [];
    const any = hostCidr({ family, value: 0n });
    const dst = destination ?? { ...any, prefixLength: 0 };
    const priority = metric === undefined ? {} : { priority: metric };
    return [routeRequest(twin, { dst, ...(gateway === undefined ? {} : { gw: gateway }), ...priority })];
  });
  // One by one: what the stand-in can't have, as a gateway beyond a link that is down, matters to no ADD.
  for (const request of requests) stage.attempt([request]);
}

async function copyTables(host: NetworkNamespace, stage: NetworkNamespace): Promise<void> {
  const listed = await runProgram("nft", ["list", "tables"], { namespacePath: host.path });
  const own = listed.split("\n").flatMap((line) => /^table (\w+) netctl$/.exec(line)?.[1] ?? []);
  for (const family of own) {
    const text = await runProgram("nft", ["list", "table", family, "netctl"], { namespacePath: host.path });
    await new Nft({ namespacePath: stage.path }).run(text);
  }
}
