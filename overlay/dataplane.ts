import { isDeepStrictEqual } from "node:util";
import { listLinks } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readSysctl, writeSysctls } from "#kernel/sysctl.ts";
import { type Cidr, formatCidr } from "#net/cidr.ts";
import { equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import type { Request } from "#netlink/message.ts";
import { decodeAddress, deleteAddress, getAddresses, newAddress } from "#netlink/route/address.ts";
import {
  decodeForwardingEntry,
  deleteForwardingEntry,
  getForwardingEntries,
  newForwardingEntry,
} from "#netlink/route/fdb.ts";
import { deleteLink, firstLink, getLink, type Link, newLink, setLink } from "#netlink/route/link.ts";
import { AddressGeneration } from "#netlink/route/link-attributes.ts";
import {
  decodeNeighbor,
  deleteNeighbor,
  getNeighbors,
  NeighborFlag,
  NeighborState,
  newNeighbor,
} from "#netlink/route/neighbor.ts";
import {
  decodeRoute,
  deleteRoute,
  getRoutes,
  newRoute,
  type Route,
  RouteType,
} from "#netlink/route/route.ts";
import type { Outcome } from "#netlink/socket.ts";
import { announce } from "./announcement.ts";
import type { Desired, Endpoint, Peer, Tunnel } from "./desired.ts";
import { isOverlayBridgeName, overlayBridgeName } from "./identity.ts";
import {
  addressKey,
  forwardingKey,
  type Have,
  neighborKey,
  routeKey,
  routeProtocol,
  type Want,
} from "./kernel-entry.ts";
import { endpointEntries, ensureStretch, presentOnBridge, wantedOnBridge } from "./stretch.ts";

/** Of the routes that end packets to addresses which nobody has: any other route to them comes first. */
const unreachableMetric = 0xffff_fffe;

/** Marks our devices, whatever somebody has renamed them to. */
const aliasPrefix = "netctl:overlay=";

/** What a pass has changed, in words; empty if all was as it should be. */
export interface Reconciled {
  readonly changes: readonly string[];
  readonly failures: readonly string[];
  /** ifindexes of the tunnels and of the bridges that they are ports of, by name. */
  readonly devices: ReadonlyMap<string, number>;
  /** What there should be now, by `Key.place`. */
  readonly places: ReadonlySet<string>;
}

/** What `advance` has changed. */
export interface Advanced extends Pick<Reconciled, "changes" | "failures"> {
  /** Places of what is wanted now and was not, or was another there. */
  readonly come: readonly string[];
  /** Places at which nothing is wanted any more. */
  readonly gone: readonly string[];
}

/**
 * Makes the host's tunnels so, by comparing: whoever has deleted what, and whatever happened while nobody looked, the
 * next pass mends it. Entries of others (learned, of another routing daemon, by hand) are left alone.
 * @param mayRemove false while nobody has said yet what there is now: then it only adds
 */
export function reconcile(
  namespace: NetworkNamespace,
  { tunnels, subnets }: Desired,
  underlayDevice: (local: IpAddress) => number | undefined,
  mayRemove = true,
): Reconciled {
  const changes: string[] = [];
  const failures: string[] = [];
  const send = (items: readonly Item[], done: readonly number[]) =>
    sendAll(namespace, items, done, { changes, failures });

  const wantedNames = new Set<string>(tunnels.map((tunnel) => tunnel.name));
  const present = readDevices(namespace, wantedNames);
  const wants: Want[] = [];
  const haves: Have[] = [];
  const devices = new Map<string, number>();
  for (const tunnel of tunnels) {
    const parent = tunnel.lower ?? underlayDevice(tunnel.local);
    if (parent === undefined) {
      failures.push(`tunnel ${tunnel.name}: no device has the underlay address ${formatIp(tunnel.local)}`);
      continue;
    }
    const device = ensureDevice(namespace, present.get(tunnel.name), { tunnel, parent, changes, failures });
    if (!device) continue;
    devices.set(tunnel.name, device.ifindex);
    wants.push(...wantedEntries(tunnel, device.ifindex));
    haves.push(...presentEntries(namespace, device));
    if (!tunnel.stretch) continue;
    const bridge = ensureStretch(namespace, device, tunnel.stretch, { changes, failures });
    if (bridge === undefined) continue;
    devices.set(tunnel.stretch.bridge, bridge);
    wants.push(...wantedOnBridge(tunnel, tunnel.stretch, device.ifindex, bridge));
    haves.push(...presentOnBridge(namespace, device, bridge, tunnel.stretch));
  }
  wants.push(...unreachableRoutes(subnets));
  haves.push(...presentRoutes(namespace));

  const wantedPlaces = new Set(wants.map((want) => want.place));
  const presentKeys = new Set(haves.map((have) => have.key));
  const isComplete = failures.length === 0;
  // What leads somewhere comes before what leads to it; what is no longer wanted goes after what replaces it.
  const added = wants.filter(({ key }) => !presentKeys.has(key));
  send(
    added.map(({ words, add }) => ({ words: `add ${words()}`, request: add() })),
    [Errno.EEXIST],
  );
  tellOf(namespace, added);
  // Where a tunnel is not there that should be, nobody can say which ways are no longer wanted.
  if (!isComplete || !mayRemove) return { changes, failures, devices, places: wantedPlaces };
  send(
    haves
      .filter(({ place }) => !wantedPlaces.has(place))
      .map(({ words, remove }) => ({ words: `remove ${words()}`, request: remove() })),
    [Errno.ENOENT, Errno.ESRCH, Errno.ENODEV, Errno.EADDRNOTAVAIL],
  );
  const leavers = [...present.values()].filter((device) => !wantedNames.has(device.name));
  send(
    leavers.map(({ ifindex, name }) => ({ words: `remove tunnel ${name}`, request: deleteLink(ifindex) })),
    [Errno.ENODEV],
  );
  return { changes, failures, devices, places: wantedPlaces };
}

/**
 * Brings over what differs between two states of which a pass has made the first, without looking at the kernel.
 * @param devices of that pass
 * @returns undefined where more differs than ways to other hosts and their containers: that is for a whole pass
 */
export function advance(
  namespace: NetworkNamespace,
  devices: ReadonlyMap<string, number>,
  before: Desired,
  after: Desired,
): Advanced | undefined {
  if (before.tunnels.length !== after.tunnels.length || !isDeepStrictEqual(before.subnets, after.subnets))
    return undefined;
  const old: Have[] = [];
  const wanted: Want[] = [];
  for (const [index, tunnel] of after.tunnels.entries()) {
    const former = before.tunnels[index];
    const ifindex = devices.get(tunnel.name);
    if (!former || ifindex === undefined || !isSameEnd(former, tunnel)) return undefined;
    const peers = new Map(former.peers.map((peer) => [peer.hostId, peer]));
    for (const peer of tunnel.peers) {
      const was = peers.get(peer.hostId);
      peers.delete(peer.hostId);
      if (was && isSamePeer(was, peer)) continue;
      wanted.push(...peerEntries(tunnel, peer, ifindex));
      if (was) old.push(...peerEntries(tunnel, was, ifindex));
    }
    for (const peer of peers.values()) old.push(...peerEntries(tunnel, peer, ifindex));
    const { stretch } = tunnel;
    if (!stretch || !former.stretch) continue;
    const bridge = devices.get(stretch.bridge);
    if (bridge === undefined) return undefined;
    const entries = (endpoint: Endpoint) => endpointEntries(tunnel, stretch, endpoint, ifindex, bridge);
    const now = new Set(stretch.endpoints);
    const then = new Set(former.stretch.endpoints);
    for (const endpoint of now) if (!then.has(endpoint)) wanted.push(...entries(endpoint));
    for (const endpoint of then) if (!now.has(endpoint)) old.push(...entries(endpoint));
  }
  const changes: string[] = [];
  const failures: string[] = [];
  const oldKeys = new Set(old.map(({ key }) => key));
  const places = new Set(wanted.map(({ place }) => place));
  const added = wanted.filter(({ key }) => !oldKeys.has(key));
  const removed = old.filter(({ place }) => !places.has(place));
  const report = { changes, failures };
  sendAll(
    namespace,
    added.map(({ words, add }) => ({ words: `add ${words()}`, request: add() })),
    [Errno.EEXIST],
    report,
  );
  tellOf(namespace, added);
  sendAll(
    namespace,
    removed.map(({ words, remove }) => ({ words: `remove ${words()}`, request: remove() })),
    [Errno.ENOENT, Errno.ESRCH],
    report,
  );
  return { ...report, come: [...places], gone: removed.map(({ place }) => place) };
}

/** Once the ways are there. */
function tellOf(namespace: NetworkNamespace, added: readonly Want[]): void {
  announce(
    namespace,
    added.flatMap(({ announced }) => announced ?? []),
  );
}

/** All of a tunnel but its ways to other hosts and containers. */
function isSameEnd(a: Tunnel, b: Tunnel): boolean {
  return isDeepStrictEqual(withoutWays(a), withoutWays(b));
}

function withoutWays({ stretch, ...tunnel }: Tunnel): object {
  return { ...tunnel, peers: [], stretch: stretch && { ...stretch, endpoints: [] } };
}

function isSamePeer(a: Peer, b: Peer): boolean {
  // Made once for the same blocks: see desired.ts.
  return a.blocks === b.blocks && a.mac === b.mac && equalIp(a.underlay, b.underlay);
}

interface Item {
  readonly words: string;
  readonly request: Request;
}

/** @param done errors that say that it is so already */
function sendAll(
  namespace: NetworkNamespace,
  items: readonly Item[],
  done: readonly number[],
  { changes, failures }: { readonly changes: string[]; readonly failures: string[] },
): void {
  for (let at = 0; at < items.length; at += batchSize) {
    const part = items.slice(at, at + batchSize);
    const outcomes = namespace.attempt(part.map((item) => item.request));
    for (const [index, { words }] of part.entries()) {
      const outcome = outcomes[index];
      if (outcome?.errno === 0) changes.push(words);
      else if (!done.includes(outcome?.errno ?? 0))
        failures.push(`${words}: ${outcome?.error?.message ?? "no answer"}`);
    }
  }
}

/**
 * Removes the bridges of networks that have gone, once nothing is connected to them.
 * @param vnis of the networks that there are
 */
export function removeStaleBridges(namespace: NetworkNamespace, vnis: readonly number[]): readonly string[] {
  const kept = new Set<string>(vnis.map(overlayBridgeName));
  const links = listLinks(namespace);
  const stale = links.filter(
    ({ name, kind, ifindex }) =>
      kind === "bridge" &&
      isOverlayBridgeName(name) &&
      !kept.has(name) &&
      !links.some(({ master }) => master === ifindex),
  );
  return stale.flatMap(({ ifindex, name }) => {
    const [outcome] = namespace.attempt([deleteLink(ifindex)]);
    return outcome?.errno === 0 ? [`remove bridge ${name}`] : [];
  });
}

/** Requests in one datagram: well below a socket's buffer for the answers. */
const batchSize = 200;

/** Our devices: by their mark, or by a name that is to be ours, as after a crash right behind the making. */
function readDevices(
  namespace: NetworkNamespace,
  wantedNames: ReadonlySet<string>,
): ReadonlyMap<string, Link> {
  const devices = new Map<string, Link>();
  for (const { ifindex, name, kind, alias } of listLinks(namespace)) {
    if (kind !== "vxlan" || !(alias?.startsWith(aliasPrefix) || wantedNames.has(name))) continue;
    const [answer] = namespace.attempt([getLink(ifindex, { statistics: false })]);
    const link = answer?.errno === 0 ? firstLink(answer.messages) : undefined;
    if (link) devices.set(name, link);
  }
  return devices;
}

interface Making {
  readonly tunnel: Tunnel;
  /** ifindex of the underlay's device */
  readonly parent: number;
  readonly changes: string[];
  readonly failures: string[];
}

function ensureDevice(
  namespace: NetworkNamespace,
  present: Link | undefined,
  making: Making,
): Link | undefined {
  const { tunnel, parent, changes, failures } = making;
  if (present && isSameTunnel(present, tunnel, parent)) {
    return adjust(namespace, present, making) ? present : undefined;
  }
  const outcomes = namespace.attempt([
    ...(present ? [deleteLink(present.ifindex)] : []),
    newLink({
      name: tunnel.name,
      kind: "vxlan",
      mac: tunnel.mac,
      mtu: tunnel.mtu,
      vxlan: {
        id: tunnel.vni,
        link: parent,
        ...(tunnel.local.family === 4 ? { local: tunnel.local } : { local6: tunnel.local }),
        port: tunnel.udpPort,
        learning: false,
        udpChecksum: true,
        // Never fragment on the way: what does not fit is told to the sender.
        df: tunnel.local.family === 4 ? 1 : 0,
      },
    }),
  ]);
  const made = outcomes.at(-1);
  if (made?.error) {
    failures.push(`make tunnel ${tunnel.name}: ${made.error.message}`);
    return undefined;
  }
  writeSysctls(namespace, [
    { key: `net/ipv6/conf/${tunnel.name}/accept_ra`, value: 0, optional: true },
    // What the kernel's documentation asks for tunnels, where a strict check would hold for this one. Where there is
    // none, it stays so: a loose one costs each packet a look-up in the table of routes.
    ...(hasStrictSources(namespace, tunnel.name)
      ? [{ key: `net/ipv4/conf/${tunnel.name}/rp_filter`, value: 2, optional: true }]
      : []),
  ]);
  const [, up] = namespace.attempt([
    setLink(tunnel.name, { addressGeneration: AddressGeneration.None }),
    // The kernel takes no alias from who makes a link.
    setLink(tunnel.name, { alias: aliasOf(tunnel), up: true }),
  ]);
  // No way leads by a device that is down: to say that of each would hide why it is.
  if (up?.error) {
    failures.push(`set tunnel ${tunnel.name} up: ${whyNotUp(up, tunnel)}`);
    return undefined;
  }
  changes.push(`${present ? "make again" : "make"} tunnel ${tunnel.name}`);
  const [answer] = namespace.attempt([getLink(tunnel.name, { statistics: false })]);
  return answer?.errno === 0 ? firstLink(answer.messages) : undefined;
}

/** The larger of the two counts (ip-sysctl.rst). */
function hasStrictSources(namespace: NetworkNamespace, device: string): boolean {
  const values = ["all", device].map((name) =>
    Number(readSysctl(namespace, `net/ipv4/conf/${name}/rp_filter`) ?? 0),
  );
  return Math.max(...values) === 1;
}

/** What can't be changed on a device that exists. */
function isSameTunnel(device: Link, tunnel: Tunnel, parent: number): boolean {
  const { vxlan } = device;
  const local = tunnel.local.family === 4 ? vxlan?.local : vxlan?.local6;
  return (
    vxlan?.id === tunnel.vni &&
    vxlan.port === tunnel.udpPort &&
    vxlan.link === parent &&
    vxlan.learning === false &&
    local !== undefined &&
    equalIp(local, tunnel.local)
  );
}

function aliasOf({ networkId }: Tunnel): string {
  return `${aliasPrefix}${networkId}`;
}

/** The kernel's words, and whose the port is: with "address in use" it means that of UDP. */
function whyNotUp({ errno, error }: Outcome, { udpPort }: Tunnel): string {
  const owner =
    errno === Errno.EADDRINUSE ? `another program has UDP port ${udpPort}, ss -lunp shows it: ` : "";
  return `${owner}${error?.message ?? "no answer"}`;
}

/** @returns whether it can be used */
function adjust(namespace: NetworkNamespace, device: Link, { tunnel, changes, failures }: Making): boolean {
  const wanted = {
    ...(device.mtu === tunnel.mtu ? {} : { mtu: tunnel.mtu }),
    ...(device.mac === tunnel.mac ? {} : { mac: tunnel.mac }),
    ...(device.alias === aliasOf(tunnel) ? {} : { alias: aliasOf(tunnel) }),
    ...(device.up ? {} : { up: true }),
  };
  if (Object.keys(wanted).length === 0) return true;
  const words = `set ${Object.keys(wanted).join(", ")} of tunnel ${tunnel.name}`;
  const [outcome] = namespace.attempt([setLink(device.ifindex, wanted)]);
  if (!outcome?.error) {
    changes.push(words);
    return true;
  }
  failures.push(`${words}: ${whyNotUp(outcome, tunnel)}`);
  return device.up;
}

function wantedEntries(tunnel: Tunnel, ifindex: number): readonly Want[] {
  return [
    ...tunnel.addresses.map((address) => ({
      ...addressKey(ifindex, address),
      words: () => `address ${formatCidr(address)} of ${tunnel.name}`,
      add: () => newAddress({ ifindex, address, noDad: address.address.family === 6 }),
    })),
    ...tunnel.peers.flatMap((peer) => peerEntries(tunnel, peer, ifindex)),
  ];
}

function peerEntries(tunnel: Tunnel, peer: Peer, ifindex: number): readonly (Want & Have)[] {
  const { mac, underlay, gateways, blocks } = peer;
  return [
    {
      ...forwardingKey(ifindex, mac, underlay),
      words: () => `forwarding entry ${mac} to ${formatIp(underlay)} of ${tunnel.name}`,
      add: () =>
        newForwardingEntry({
          ifindex,
          mac,
          destination: underlay,
          // An address that means something on one link alone needs the link.
          viaIfindex: tunnel.lower,
          presence: "replace",
        }),
      remove: () => deleteForwardingEntry({ ifindex, mac, destination: underlay, viaIfindex: tunnel.lower }),
    },
    ...gateways.map((ip) => ({
      ...neighborKey(ifindex, ip, mac),
      words: () => `neighbor ${formatIp(ip)} of ${tunnel.name}`,
      add: () => newNeighbor({ ifindex, ip, mac, replace: true }),
      remove: () => deleteNeighbor({ ifindex, ip }),
    })),
    ...blocks.flatMap((destination) => {
      const { family } = destination.address;
      const gateway = gateways.find((ip) => ip.family === family);
      if (!gateway) return [];
      return [
        {
          ...routeKey({ destination, gateway, ifindex }),
          words: () => `route to ${formatCidr(destination)} by ${tunnel.name}`,
          add: () =>
            newRoute({
              family,
              destination,
              gateway,
              ifindex,
              onLink: true,
              protocol: routeProtocol,
              presence: "replace",
            }),
          remove: () => deleteRoute({ family, destination, gateway, ifindex, protocol: routeProtocol }),
        },
      ];
    }),
  ];
}

function unreachableRoutes(subnets: readonly Cidr[]): readonly Want[] {
  const distinct = new Map(subnets.map((cidr) => [formatCidr(cidr), cidr]));
  return [...distinct.values()].map((destination) => ({
    ...routeKey({ destination }),
    words: () => `unreachable route to ${formatCidr(destination)}`,
    add: () =>
      newRoute({
        family: destination.address.family,
        destination,
        type: RouteType.unreachable,
        metric: unreachableMetric,
        protocol: routeProtocol,
        presence: "replace",
      }),
  }));
}

function presentEntries(namespace: NetworkNamespace, { ifindex, name }: Link): readonly Have[] {
  const addresses = namespace.dump(getAddresses({ ifindex })).map(decodeAddress);
  const neighbors = namespace
    .dump(getNeighbors({ ifindex }))
    .map(decodeNeighbor)
    .filter(
      ({ state, flags }) =>
        state === NeighborState.permanent && (flags & NeighborFlag.ExternallyLearned) === 0,
    );
  const forwarding = namespace
    .dump(getForwardingEntries({ ifindex }))
    .map(decodeForwardingEntry)
    .filter((entry) => entry.ifindex === ifindex && entry.destination !== undefined)
    .filter(({ flags }) => (flags & NeighborFlag.ExternallyLearned) === 0);
  return [
    ...addresses.map(({ address }) => ({
      ...addressKey(ifindex, address),
      words: () => `address ${formatCidr(address)} of ${name}`,
      remove: () => deleteAddress({ ifindex, address }),
    })),
    ...neighbors.map(({ ip, mac }) => ({
      ...neighborKey(ifindex, ip, mac ?? ""),
      words: () => `neighbor ${formatIp(ip)} of ${name}`,
      remove: () => deleteNeighbor({ ifindex, ip }),
    })),
    ...forwarding.map(({ mac, destination, viaIfindex }) => ({
      ...forwardingKey(ifindex, mac, destination),
      words: () => `forwarding entry ${mac} of ${name}`,
      remove: () => deleteForwardingEntry({ ifindex, mac, destination, viaIfindex }),
    })),
  ];
}

function presentRoutes(namespace: NetworkNamespace): readonly Have[] {
  return ([4, 6] as const)
    .flatMap((family) => namespace.dump(getRoutes({ family, table: 254 })).map(decodeRoute))
    .filter((route) => route.protocol === routeProtocol)
    .map((route) => ({
      // IPv6 names the loopback as the device of a route that goes nowhere.
      ...routeKey(isUnreachable(route) ? { destination: route.destination } : route),
      words: () => `route to ${route.destination ? formatCidr(route.destination) : "everywhere"}`,
      remove: () =>
        deleteRoute({
          family: route.family,
          destination: route.destination,
          gateway: route.gateway,
          ifindex: isUnreachable(route) ? undefined : route.ifindex,
          metric: route.metric,
          type: route.type,
          protocol: routeProtocol,
        }),
    }));
}

function isUnreachable(route: Pick<Route, "type">): boolean {
  return route.type === RouteType.unreachable;
}
