import { type Cidr, formatCidr } from "#net/cidr.ts";
import { formatIp, type IpAddress } from "#net/ip.ts";
import type { Request } from "#netlink/message.ts";

/** Marks our routes (RTPROT_*), so that nobody else's is ever touched. Above those that iproute2 names. */
export const routeProtocol = 201;

/** Something that the kernel should have. Nearly always it has: words and request are made when they are needed. */
export interface Want extends Key {
  readonly words: () => string;
  readonly add: () => Request;
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
