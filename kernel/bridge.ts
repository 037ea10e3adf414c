import { crashPoint } from "#machine/crash-point.ts";
import { parseCidr } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import { randomMac } from "#net/mac.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import type { Request } from "#netlink/message.ts";
import { firstLinkSummary, getLink, LinkFlag, newLink, setLink } from "#netlink/route/link.ts";
import { AddressGeneration } from "#netlink/route/link-attributes.ts";
import { deleteRoute, RouteTable } from "#netlink/route/route.ts";
import { expectLink, type Link, listLinks, readLink, removeLink, requireLink } from "./link.ts";
import { NotABridgeError, UnsupportedByKernelError } from "./link-error.ts";
import type { NetworkNamespace } from "./namespace.ts";
import { type SysctlSetting, writeSysctls } from "./sysctl.ts";
import type { Undo } from "./undo.ts";

/** What a bridge that is shared by many has to be like. */
export interface BridgeSpec {
  readonly name: IfName;
  /** Of a bridge that is made; one that exists keeps its own. */
  readonly mtu?: number;
  /** Is switched on, never off. */
  readonly vlanFiltering: boolean;
  /** Is switched on, never off. */
  readonly promiscuous: boolean;
}

/** VLAN ids `first` to `last`, both included; 1 to 4094 (IEEE 802.1Q: 0 and 4095 are no VLANs). */
export interface VlanRange {
  readonly first: number;
  readonly last: number;
}

/** What the port of one attachment has to be like. */
export interface BridgePortSpec {
  /** Frames may leave through the port that they came in by. */
  readonly hairpin: boolean;
  /** No frames from or to other isolated ports. */
  readonly isolated: boolean;
  readonly vlans?: PortVlans;
}

export interface PortVlans {
  /** Untagged frames are of this VLAN, both ways. */
  readonly untagged: number;
  readonly tagged: readonly VlanRange[];
  /** Keep the VLANs that the bridge gave the port by itself. */
  readonly keepOthers: boolean;
}

/** The bridge of that name; undefined if there is no such link. @throws {NotABridgeError} */
export function readBridge(namespace: NetworkNamespace, name: IfName): Link | undefined {
  return asBridge(readLink(namespace, name), name);
}

/** The same for a link that was read already. @throws {NotABridgeError} */
export function asBridge(link: Link | undefined, name: IfName): Link | undefined {
  if (link && link.kind !== "bridge") throw new NotABridgeError(name, link.kind);
  return link;
}

/**
 * Makes sure that the bridge is there, up, and as `spec` says; adopts one that exists, whoever made it.
 *
 * A new one gets a MAC address of its own: else it takes the lowest of its ports, and changes with them. It does not
 * listen to router advertisements, since the containers on it could send some, and skips duplicate address detection.
 * Like `ip link add NAME type bridge`.
 * @param present what `readBridge()` has just said
 * @param undo gets what takes the change back; a bridge that others have come to use meanwhile stays
 * @throws {UnsupportedByKernelError} VLAN filtering
 * @throws {NetlinkError}
 */
export function ensureBridge(
  namespace: NetworkNamespace,
  spec: BridgeSpec,
  present: Link | undefined,
  undo: Undo,
): Link {
  return adoptBridge(namespace, present ?? createBridge(namespace, spec, undo), spec);
}

function createBridge(namespace: NetworkNamespace, spec: BridgeSpec, undo: Undo): Link {
  const { name, mtu } = spec;
  const data = spec.vlanFiltering ? { bridge: { vlanFiltering: true } } : {};
  try {
    namespace.transact([newLink({ name, kind: "bridge", mtu, mac: randomMac(), ...data })]);
  } catch (error) {
    if (!isNetlinkError(error, Errno.EEXIST)) throw spec.vlanFiltering ? explainVlans(error, name) : error;
    // Another ADD was faster: its bridge is as good.
    const link = readBridge(namespace, name);
    if (link) return link;
    throw error;
  }
  undo.push(`bridge ${JSON.stringify(name)}`, async () => {
    const link = readLink(namespace, name);
    if (link && listLinks(namespace, { master: link.ifindex }).length === 0)
      await removeLink(namespace, link.ifindex);
  });
  crashPoint("bridge-made");
  writeSysctls(namespace, [noRouterAdvertisements(name), noAddressDetection(name)]);
  crashPoint("bridge-sysctls-set");
  return requireLink(namespace, name);
}

/**
 * Makes the link-local address of a bridge usable as soon as it has one. Neighbours are asked from that address, so
 * until it has passed detection, a second after the first port came up, the host forwards no IPv6 to the containers.
 */
export function skipAddressDetection(namespace: NetworkNamespace, name: string): void {
  writeSysctls(namespace, [noAddressDetection(name)]);
}

/** Keeps the host from taking whoever is behind the link for its router (CVE-2020-10749). */
export function ignoreRouterAdvertisements(namespace: NetworkNamespace, name: string): void {
  writeSysctls(namespace, [noRouterAdvertisements(name)]);
}

function noRouterAdvertisements(name: string): SysctlSetting {
  return { key: `net/ipv6/conf/${name}/accept_ra`, value: 0, optional: true };
}

function noAddressDetection(name: string): SysctlSetting {
  return { key: `net/ipv6/conf/${name}/accept_dad`, value: 0, optional: true };
}

function adoptBridge(namespace: NetworkNamespace, link: Link, spec: BridgeSpec): Link {
  const wantsFiltering = spec.vlanFiltering && link.bridge?.vlanFiltering !== true;
  const wantsPromiscuous = spec.promiscuous && !isPromiscuous(link);
  if (link.up && !wantsFiltering && !wantsPromiscuous) return link;
  const change = setLink(link.ifindex, {
    up: true,
    ...(wantsPromiscuous && { promiscuous: true }),
    ...(wantsFiltering && { kind: "bridge", bridge: { vlanFiltering: true } }),
  });
  try {
    namespace.transact([change]);
  } catch (error) {
    throw wantsFiltering ? explainVlans(error, spec.name) : error;
  }
  crashPoint("bridge-up");
  const changed = requireLink(namespace, link.ifindex);
  // Older kernels overlook an attribute that they were built without.
  if (spec.vlanFiltering && changed.bridge?.vlanFiltering !== true) throw vlansUnsupported(spec.name);
  return changed;
}

/**
 * Takes the route for multicast away that the kernel gives each port as soon as it has a carrier. Like `ip -6 route del
 * multicast ff00::/8 dev PORT table local`. ESRCH before that.
 */
export function portMulticastRoute({ ifindex }: Link): Request {
  return deleteRoute({ family: 6, destination: multicast6, ifindex, table: RouteTable.local });
}

const multicast6 = parseCidr("ff00::/8");

function explainVlans(error: unknown, name: IfName): unknown {
  return isNetlinkError(error, Errno.EOPNOTSUPP) ? vlansUnsupported(name, error) : error;
}

function vlansUnsupported(name: IfName, cause?: unknown): UnsupportedByKernelError {
  const what = `use VLANs on bridge ${JSON.stringify(name)}`;
  return new UnsupportedByKernelError(what, "CONFIG_BRIDGE_VLAN_FILTERING", cause);
}

/** Set by the operator; not what the bridge does by itself for its ports. */
export function isPromiscuous(link: Link): boolean {
  return (link.flags & LinkFlag.Promiscuous) !== 0;
}

/**
 * Sets a new port up, with what differs from a port's defaults. Like `bridge link set dev PORT hairpin on isolated on`
 * and `ip link set PORT addrgenmode none up`.
 *
 * A port has no use for an IPv6 address, as frames pass its own stack by; but whenever one comes or goes the kernel walks
 * all IPv6 routes of the host, of which each port with an address has three, and without one still has one: see
 * `portMulticastRoute()`. The sysctl disable_ipv6 would save all of them, but whoever sets it spins while another program
 * holds the kernel's rtnl lock.
 * @throws {NetlinkError} ENODEV
 */
export function startBridgePort(namespace: NetworkNamespace, port: IfName, spec: BridgePortSpec): Link {
  const bridgePort = {
    ...(spec.hairpin && { hairpin: true }),
    ...(spec.isolated && { isolated: true }),
  };
  const isPlain = !spec.hairpin && !spec.isolated;
  // Not needed by a port without addresses, but where the reference has it people look for it.
  ignoreRouterAdvertisements(namespace, port);
  const outcomes = namespace.attempt([
    // First, as it is too late when the port is up. A kernel without IPv6 refuses it.
    setLink(port, { addressGeneration: AddressGeneration.None }),
    setLink(port, { up: true, ...(isPlain ? {} : { bridgePort }) }),
    getLink(port, { statistics: false }),
  ]);
  for (const { error } of outcomes.slice(1)) if (error) throw error;
  return expectLink(firstLinkSummary(outcomes.at(-1)?.messages ?? []), port);
}
