import type { CniIp } from "#cni/result.ts";
import { readAddresses } from "#kernel/address.ts";
import { createMacvlan } from "#kernel/child-link.ts";
import { addHostRoute, linkTowards, removeHostRoute, setNeighbor } from "#kernel/host-route.ts";
import { type Link, readLink, requireLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { writeSysctls } from "#kernel/sysctl.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { sha256Hex } from "#machine/sha256.ts";
import { containsIp } from "#net/cidr.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";
import { formatIp, type IpAddress, isLinkLocal } from "#net/ip.ts";
import { type MacAddress, parseMac } from "#net/mac.ts";
import type { PluginHost } from "#plugins/context.ts";
import type { Making } from "#plugins/interface-driver.ts";
import { ensureSharedLink, releaseSharedLink, sharedLinkAlias } from "#plugins/shared-link.ts";
import type { User } from "#plugins/users.ts";
import type { MacvlanConfig } from "./config.ts";
import type { Made } from "./made.ts";

/**
 * A macvlan and the link below it never hear each other. So the host gets a macvlan of its own on that link, which all
 * containers share, and a route through it to each of their addresses.
 */
export type HostAccess = NonNullable<Made["hostAccess"]>;

/** `mh-` and 12 hex digits. */
export function hostAccessName(parent: string): IfName {
  return parseIfName(`mh-${sha256Hex(JSON.stringify(["host access", parent])).slice(0, 12)}`);
}

/** Makes the host's side of it, before the container's interface is up. */
export async function grantHostAccess(
  work: Making<MacvlanConfig, Made>,
  ips: readonly CniIp[],
): Promise<void> {
  const { made, key, host, undo } = work;
  const { namespace } = host.kernel;
  const parent = requireLink(namespace, made.parent.name);
  const access = {
    link: hostAccessName(parent.name),
    addresses: ips.map(({ address: { address } }) => ({
      address,
      prefixLength: address.family === 4 ? 32 : 128,
    })),
  };
  work.amend({ ...made, hostAccess: access });
  const user = { key, plugin: "macvlan" };
  undo.push("host access", () => revokeHostAccess(access, host, user));
  const link = await ensureSharedLink(host, access.link, user, (inHost) => make(inHost, access.link, parent));
  for (const { address } of ips) {
    addHostRoute(namespace, {
      destination: address.address,
      ifindex: link.ifindex,
      source: hostAddress(namespace, parent, address.address, ips),
    });
    crashPoint("host-access-route-added");
  }
}

function make(namespace: NetworkNamespace, name: IfName, parent: Link): void {
  createMacvlan(namespace, {
    name,
    parent,
    mode: "bridge",
    mac: derivedMac(parent),
    alias: sharedLinkAlias,
  });
  writeSysctls(namespace, [
    // It answers those whom the host reaches through it, the containers, and not everybody else on the wire, who would
    // take its MAC address for the host's and lose the host when it goes.
    { key: `net/ipv4/conf/${name}/arp_filter`, value: 1 },
    // Of what routers say on the wire, the parent has its part already.
    { key: `net/ipv6/conf/${name}/accept_ra`, value: 0, optional: true },
    { key: `net/ipv6/conf/${name}/autoconf`, value: 0, optional: true },
  ]);
}

/** The same whenever it is made again, as containers remember it; another one on each host. */
function derivedMac(parent: Link): MacAddress {
  const hex = sha256Hex(JSON.stringify(["host access", parent.name, parent.mac])).slice(0, 10);
  return parseMac(`02${hex}`.replace(/(..)(?=.)/g, "$1:"));
}

/** The host's own address in the container's subnet. */
function hostAddress(
  namespace: NetworkNamespace,
  parent: Link,
  container: IpAddress,
  ips: readonly CniIp[],
): IpAddress | undefined {
  const subnet = ips.find(({ address }) => address.address === container)?.address;
  return readAddresses(namespace, parent.ifindex)
    .map(({ address }) => address.address)
    .find((address) => !isLinkLocal(address) && subnet && containsIp(subnet, address));
}

/**
 * Tells the container where the host's IPv6 addresses are: the host answers for an address only on the interface that
 * has it (ndisc_recv_ns in net/ipv6/ndisc.c), and the container can't be heard there.
 */
export function introduceHost(work: Making<MacvlanConfig, Made>, ips: readonly CniIp[]): void {
  const { made, container, ifName, host } = work;
  const { namespace } = host.kernel;
  if (!made.hostAccess) return;
  const link = readLink(namespace, made.hostAccess.link);
  const parent = readLink(namespace, made.parent.name);
  if (!link?.mac || !parent) return;
  const { ifindex } = requireLink(container, ifName);
  for (const { address } of readAddresses(namespace, parent.ifindex)) {
    const ip = address.address;
    const isReached = ips.some((own) => ip.family === 6 && containsIp(own.address, ip));
    if (isReached && !isLinkLocal(ip)) setNeighbor(container, { ifindex, ip, mac: link.mac });
  }
}

/** Takes the routes away, and the host's macvlan after the last of them. */
export async function revokeHostAccess(access: HostAccess, host: PluginHost, user: User): Promise<void> {
  const { namespace } = host.kernel;
  const link = readLink(namespace, access.link);
  for (const { address } of link ? access.addresses : []) {
    if (link) removeHostRoute(namespace, { destination: address, ifindex: link.ifindex });
  }
  crashPoint("host-access-routes-removed");
  await releaseSharedLink(host, access.link, user);
}

/** What is missing of it, in words. */
export function hostAccessProblems(access: HostAccess, namespace: NetworkNamespace): readonly string[] {
  const name = JSON.stringify(access.link);
  const link = readLink(namespace, access.link);
  if (!link) return [`the host's own macvlan ${name} is gone`];
  if (!link.up) return [`the host's own macvlan ${name} is down`];
  return access.addresses
    .filter(({ address }) => linkTowards(namespace, address) !== link.ifindex)
    .map(({ address }) => `the host has no route to ${formatIp(address)} by ${name}`);
}
