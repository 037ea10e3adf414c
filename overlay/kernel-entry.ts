import { formatIp, type IpAddress } from "#net/ip.ts";
import type { Request } from "#netlink/message.ts";

/** Something that the kernel should have. */
export interface Want extends Key {
  readonly words: string;
  readonly add: Request;
}

/** Something that it has. */
export interface Have extends Key {
  readonly words: string;
  readonly remove: Request;
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
