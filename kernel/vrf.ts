import type { IfName } from "#net/ifname.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import { decodeLink, firstLink, getLink, getLinks, newLink, setLink } from "#netlink/route/link.ts";
import type { Link } from "./link.ts";
import { listLinks } from "./link.ts";
import { readLinkAddressing, restoreLinkAddressing } from "./link-addressing.ts";
import { LinkExistsError, UnsupportedByKernelError } from "./link-error.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** A routing domain: what its ports send is routed by its table alone. */
export interface Vrf {
  readonly ifindex: number;
  readonly name: string;
  readonly table: number;
  readonly alias: string | undefined;
}

/** @returns undefined if there is no link of that name; "other" if it is one of another kind */
export function readVrf(namespace: NetworkNamespace, name: IfName): Vrf | "other" | undefined {
  const [outcome] = namespace.attempt([getLink(name, { statistics: false })]);
  if (!outcome || outcome.errno === Errno.ENODEV) return undefined;
  if (outcome.error) throw outcome.error;
  const link = firstLink(outcome.messages);
  if (!link) return undefined;
  const { ifindex, alias, kind, vrf } = link;
  return kind === "vrf" ? { ifindex, name: link.name, alias, table: vrf?.table ?? 0 } : "other";
}

/** The tables of all VRFs of a namespace. */
export function readVrfTables(namespace: NetworkNamespace): readonly number[] {
  return namespace
    .dump(getLinks({ kind: "vrf", statistics: false }))
    .map(decodeLink)
    .flatMap(({ kind, vrf }) => (kind === "vrf" && vrf?.table !== undefined ? [vrf.table] : []));
}

/**
 * Creates a VRF, up. Like `ip link add NAME type vrf table NUMBER`.
 * @throws {LinkExistsError}
 * @throws {UnsupportedByKernelError}
 */
export function createVrf(
  namespace: NetworkNamespace,
  { name, table, alias }: { readonly name: IfName; readonly table: number; readonly alias: string },
): void {
  try {
    // The kernel takes an alias only for a link that there is.
    namespace.transact([newLink({ name, kind: "vrf", vrf: { table }, up: true }), setLink(name, { alias })]);
  } catch (error) {
    if (isNetlinkError(error, Errno.EEXIST)) throw new LinkExistsError(name, namespace, error);
    if (isNetlinkError(error, Errno.EOPNOTSUPP)) throw unsupported(error);
    throw error;
  }
}

function unsupported(cause: unknown): UnsupportedByKernelError {
  return new UnsupportedByKernelError("create a VRF", "CONFIG_NET_VRF", cause);
}

/**
 * Asks whether this kernel knows VRFs, without making one: by a request that it refuses for a missing queue if it does.
 * @throws {UnsupportedByKernelError}
 */
export function requireVrf(namespace: NetworkNamespace): void {
  const [outcome] = namespace.attempt([
    newLink({ name: "netctl-probe", kind: "vrf", vrf: { table: 1 }, txQueues: 0 }),
  ]);
  if (outcome?.errno === Errno.EOPNOTSUPP) throw unsupported(outcome.error);
}

export function vrfPorts(namespace: NetworkNamespace, vrf: Pick<Vrf, "ifindex">): readonly Link[] {
  return listLinks(namespace, { master: vrf.ifindex }).filter(({ master }) => master === vrf.ifindex);
}

/**
 * Puts a link into a VRF, with its addresses, and with its routes in the VRF's table. The kernel takes the link down and
 * up for it, by which it loses them. Like `ip link set NAME master VRF`.
 * @throws {NetlinkError}
 */
export function enslave(namespace: NetworkNamespace, link: Pick<Link, "ifindex">, vrf: Vrf): void {
  const addressing = readLinkAddressing(namespace, link.ifindex);
  namespace.transact([setLink(link.ifindex, { master: vrf.ifindex })]);
  restoreLinkAddressing(namespace, link.ifindex, addressing, vrf.table);
}

/** Takes it out again, with its addresses, and with its routes back in the main table. */
export function release(
  namespace: NetworkNamespace,
  link: Pick<Link, "ifindex">,
  vrf: Pick<Vrf, "table">,
): void {
  const addressing = readLinkAddressing(namespace, link.ifindex, vrf.table);
  namespace.transact([setLink(link.ifindex, { master: 0 })]);
  restoreLinkAddressing(namespace, link.ifindex, addressing);
}
