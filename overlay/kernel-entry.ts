import { type Cidr, formatCidr } from "#net/cidr.ts";
import { formatIp, type IpAddress } from "#net/ip.ts";
import type { Message, Request } from "#netlink/message.ts";
import { RouteMessage } from "#netlink/route/constant.ts";
import { decodeForwardingEntry } from "#netlink/route/fdb.ts";
import { decodeNeighbor } from "#netlink/route/neighbor.ts";
import { decodeRoute, RouteType } from "#netlink/route/route.ts";
import type { Announced } from "./announcement.ts";

/** Marks our routes (RTPROT_*), so that nobody else's is ever touched. Above those that iproute2 names. */
export const routeProtocol = 201;

/** Something that the kernel should have. Nearly always it has: words and request are made when they are needed. */
export interface Want extends Key {
  readonly words: () => string;
  readonly add: () => Request;
  /** Whom this host's containers are to be told of when it is added. */
  readonly announced?: Announced;
}

/** Something that it has. */
export interface Have extends Key {
  readonly words: () => string;
  readonly remove: () => Request;
}

/** Where something stands, and what it is. */
export interface Key {
  /** What there can be only one of: adding it replaces what has the same. */
  readonly place: string;
  /** The place with what is there. */
  readonly key: string;
}

export function keyed(place: string, what = ""): Key {
  return { place, key: `${place} ${what}` };
}

export function neighborKey(ifindex: number, ip: IpAddress, mac: string): Key {
  return keyed(`neighbor ${ifindex} ${formatIp(ip)}`, mac);
}

export function forwardingKey(ifindex: number, mac: string, destination: IpAddress | undefined): Key {
  return keyed(`fdb ${ifindex} ${mac}`, destination && formatIp(destination));
}

/** By which of its ports a bridge sends to a MAC address. @param port ifindex */
export function bridgedKey(bridge: number, mac: string, port: number): Key {
  return keyed(`bridge fdb ${bridge} ${mac}`, String(port));
}

/** What a bridge takes as its own besides its MAC address. */
export function ownKey(bridge: number, mac: string): Key {
  return keyed(`own of bridge ${bridge}`, mac);
}

export function addressKey(ifindex: number, address: Cidr): Key {
  return keyed(`address ${ifindex} ${formatCidr(address)}`);
}

/** @param route without gateway and ifindex: one that goes nowhere */
export function routeKey(route: {
  readonly destination?: Cidr | undefined;
  readonly gateway?: IpAddress | undefined;
  readonly ifindex?: number | undefined;
}): Key {
  const { destination, gateway, ifindex } = route;
  const to = destination ? formatCidr(destination) : "default";
  if (gateway) return keyed(`route ${to}`, `${formatIp(gateway)} ${ifindex}`);
  return ifindex === undefined ? keyed(`no route ${to}`) : keyed(`route ${to}`, `by ${ifindex}`);
}

/** AF_BRIDGE, include/linux/socket.h: forwarding entries come as neighbours of this family. */
const bridgeFamily = 7;

/**
 * Where something stood of which the kernel tells that it has gone: a neighbour, a forwarding entry, a route.
 * @returns undefined for all else
 * @throws {DecodeError}
 */
export function placeOfLoss(message: Message): string | undefined {
  if (message.type === RouteMessage.DeleteRoute) {
    const route = decodeRoute(message);
    return routeKey(route.type === RouteType.unreachable ? { destination: route.destination } : route).place;
  }
  if (message.type !== RouteMessage.DeleteNeighbor) return undefined;
  if (message.body[0] !== bridgeFamily) {
    const { ifindex, ip } = decodeNeighbor(message);
    return neighborKey(ifindex, ip, "").place;
  }
  const { ifindex, mac, destination, master } = decodeForwardingEntry(message);
  if (master === undefined || destination) return forwardingKey(ifindex, mac, destination).place;
  return (ifindex === master ? ownKey(master, mac) : bridgedKey(master, mac, ifindex)).place;
}
