import { parseIfName } from "#net/ifname.ts";
import { type InterfaceAddress, readAddresses } from "./address.ts";
import { changeLink, type Link, requireLink } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";

const name = parseIfName("lo");

export interface Loopback {
  readonly link: Link;
  readonly addresses: readonly InterfaceAddress[];
}

/** The loopback interface that every namespace is born with. @throws {NetlinkError} */
export function readLoopback(namespace: NetworkNamespace): Loopback {
  const link = requireLink(namespace, name);
  return { link, addresses: readAddresses(namespace, link.ifindex) };
}

/** Like `ip link set lo up`. The kernel adds 127.0.0.1/8 and ::1/128 by itself. @throws {NetlinkError} */
export function setLoopback(namespace: NetworkNamespace, up: boolean): void {
  changeLink(namespace, name, { up });
}
