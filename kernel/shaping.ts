import { type Cidr, networkOf } from "#net/cidr.ts";
import { ipToBytes } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import type { Request } from "#netlink/message.ts";
import {
  decodeQdisc,
  deleteQdisc,
  getQdisc,
  ingressHandle,
  newQdisc,
  type Qdisc,
  QdiscParent,
} from "#netlink/route/qdisc.ts";
import { decodeTrafficClass, getTrafficClasses, newTrafficClass } from "#netlink/route/traffic-class.ts";
import {
  arrivingParent,
  decodeTrafficFilter,
  deleteTrafficFilters,
  EtherType,
  getTrafficFilters,
  newTrafficFilter,
  type PacketKey,
  type TrafficFilter,
} from "#netlink/route/traffic-filter.ts";
import { UnsupportedByKernelError } from "./link-error.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** How much may pass in one direction. */
export interface Shape {
  readonly bytesPerSecond: bigint;
  /** What may pass at once. */
  readonly burstBytes: number;
  /** What may wait; more is dropped. */
  readonly limitBytes: number;
}

/** Which packets count, by the address of the other end. */
export interface Selection {
  /** "all-but": packets from and to these subnets pass freely; "only": all others do. */
  readonly mode: "all-but" | "only";
  readonly subnets: readonly Cidr[];
  /** Which address of a packet is the other end's. */
  readonly remote: "source" | "destination";
}

/** Handle of our qdisc at a link's root: `1:` */
const rootHandle = 0x10000;
/** The one class that is shaped: `1:1` */
const shapedClass = 0x10001;
/** Priority of the first of our filters; each has one of its own, one after the other. */
const firstPriority = 0xa000;

/**
 * Shapes packets as they leave through a link that has its default qdisc. Like `tc qdisc add dev NAME root handle 1: tbf
 * …`, or htb with one class where some packets are to pass freely.
 * @throws {UnsupportedByKernelError}
 * @throws {NetlinkError}
 */
export function shapeLeaving(
  namespace: NetworkNamespace,
  ifindex: number,
  shape: Shape,
  selection: Selection,
): void {
  if (selection.subnets.length === 0) {
    const qdisc = newQdisc({ ifindex, kind: "tbf", handle: rootHandle, tokenBucket: shape });
    send(namespace, [qdisc], "CONFIG_NET_SCH_TBF");
    return;
  }
  const hierarchy = { defaultClass: defaultClass(selection) };
  const requests = [
    newQdisc({ ifindex, kind: "htb", handle: rootHandle, hierarchy }),
    newTrafficClass({ ifindex, classId: shapedClass, ...shape }),
    newQdisc({ ifindex, kind: "bfifo", parent: shapedClass, fifo: shape }),
    ...leavingFilters(ifindex, selection).map(newTrafficFilter),
  ];
  send(namespace, requests, "CONFIG_NET_SCH_HTB or CONFIG_NET_CLS_U32");
}

/**
 * Leads packets that arrive by a link through another one, at whose root they can be shaped.
 * @param options.ownsQdisc false where somebody's ingress or clsact qdisc is there already, which does as well
 * @throws {UnsupportedByKernelError}
 * @throws {NetlinkError}
 */
export function redirectArriving(
  namespace: NetworkNamespace,
  ifindex: number,
  options: { readonly to: number; readonly selection: Selection; readonly ownsQdisc: boolean },
): void {
  const { to, selection, ownsQdisc } = options;
  const requests = [
    ...(ownsQdisc ? [newQdisc({ ifindex, kind: "ingress" })] : []),
    ...arrivingFilters(ifindex, to, selection).map(newTrafficFilter),
  ];
  send(namespace, requests, "CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_U32 or CONFIG_NET_ACT_MIRRED");
}

function send(namespace: NetworkNamespace, requests: readonly Request[], options: string): void {
  try {
    namespace.transact(requests);
  } catch (error) {
    // A kernel without a kind of qdisc, filter or action says that there is no such thing.
    if (isNetlinkError(error, Errno.ENOENT))
      throw new UnsupportedByKernelError("shape traffic", options, error);
    throw error;
  }
}

function defaultClass({ mode }: Selection): number {
  return mode === "only" ? 0 : shapedClass & 0xffff;
}

/** Filters for a class hierarchy. Its own handle as class lets a packet pass it unshaped. */
function leavingFilters(ifindex: number, selection: Selection): readonly TrafficFilter[] {
  const classId = selection.mode === "only" ? shapedClass : rootHandle;
  return subnetFilters({ ifindex, parent: rootHandle }, selection).map((filter) => ({ ...filter, classId }));
}

function arrivingFilters(
  ifindex: number,
  redirectTo: number,
  selection: Selection,
): readonly TrafficFilter[] {
  const where = { ifindex, parent: arrivingParent };
  const filters = subnetFilters(where, selection);
  if (selection.mode === "only") return filters.map((filter) => ({ ...filter, redirectTo }));
  const priority = firstPriority + filters.length;
  return [...filters, { ...where, priority, protocol: EtherType.all, keys: [], redirectTo }];
}

function subnetFilters(
  where: Pick<TrafficFilter, "ifindex" | "parent">,
  { subnets, remote }: Selection,
): readonly TrafficFilter[] {
  return subnets.map((subnet, index) => ({
    ...where,
    priority: firstPriority + index,
    protocol: subnet.address.family === 4 ? EtherType.ipv4 : EtherType.ipv6,
    keys: subnetKeys(subnet, remote),
  }));
}

/** Bytes from the network header to an address: RFC 791 section 3.1, RFC 8200 section 3. */
const addressOffsets = { 4: { source: 12, destination: 16 }, 6: { source: 8, destination: 24 } };

/** One key for each four bytes of the address that the prefix reaches into. */
function subnetKeys(subnet: Cidr, side: "source" | "destination"): readonly PacketKey[] {
  const { address, prefixLength } = networkOf(subnet);
  const bytes = Buffer.from(ipToBytes(address));
  const keys: PacketKey[] = [];
  for (let at = 0; 8 * at < prefixLength; at += 4) {
    const bits = Math.min(prefixLength - 8 * at, 32);
    const mask = (0xffffffff << (32 - bits)) >>> 0;
    keys.push({ offset: addressOffsets[address.family][side] + at, mask, value: bytes.readUInt32BE(at) });
  }
  return keys;
}

/** The qdisc at a link's root that somebody has put there; undefined where there is none but the default. */
export function readRootQdisc(namespace: NetworkNamespace, ifindex: number): Qdisc | undefined {
  return readQdisc(namespace, ifindex, QdiscParent.root);
}

/** The ingress or clsact qdisc of a link. */
export function readArrivingQdisc(namespace: NetworkNamespace, ifindex: number): Qdisc | undefined {
  return readQdisc(namespace, ifindex, QdiscParent.ingress);
}

function readQdisc(namespace: NetworkNamespace, ifindex: number, parent: number): Qdisc | undefined {
  const [outcome] = namespace.attempt([getQdisc({ ifindex, parent })]);
  if (!outcome || outcome.errno === Errno.ENOENT) return undefined;
  if (outcome.error) throw outcome.error;
  const [message] = outcome.messages;
  const qdisc = message && decodeQdisc(message);
  // Default ones have no handle, and those of the host that have were made by hand.
  return qdisc && qdisc.handle !== 0 ? qdisc : undefined;
}

/** Whether a root qdisc is one that `shapeLeaving()` makes. */
export function isShapingQdisc({ kind, handle }: Qdisc): boolean {
  return handle === rootHandle && (kind === "tbf" || kind === "htb");
}

const gone: readonly number[] = [Errno.ENOENT, Errno.EINVAL, Errno.ENODEV, Errno.EOPNOTSUPP];

/** Takes a shape off a link; nothing happens where it is gone, or has another one by now. */
export function removeShape(namespace: NetworkNamespace, ifindex: number): void {
  const root = readRootQdisc(namespace, ifindex);
  if (!root || !isShapingQdisc(root)) return;
  removeEach(namespace, [deleteQdisc({ ifindex, handle: rootHandle })]);
}

/**
 * Takes the filters off that lead away what arrives.
 * @param options.withQdisc the qdisc as well, and so all filters
 * @param options.count how many filters there are at most
 */
export function removeRedirection(
  namespace: NetworkNamespace,
  ifindex: number,
  options: { readonly withQdisc: boolean; readonly count: number },
): void {
  if (options.withQdisc) {
    removeEach(namespace, [deleteQdisc({ ifindex, parent: QdiscParent.ingress, handle: ingressHandle })]);
    return;
  }
  const present = readFilters(namespace, { ifindex, parent: arrivingParent });
  const ours = present.filter(
    ({ priority }) => priority >= firstPriority && priority < firstPriority + options.count,
  );
  removeEach(namespace, ours.map(deleteTrafficFilters));
}

function removeEach(namespace: NetworkNamespace, requests: readonly Request[]): void {
  const refused = namespace.attempt(requests).find(({ errno }) => errno !== 0 && !gone.includes(errno));
  if (refused?.error) throw refused.error;
}

function readFilters(
  namespace: NetworkNamespace,
  where: { readonly ifindex: number; readonly parent: number },
): readonly TrafficFilter[] {
  return namespace.dump(getTrafficFilters(where)).flatMap((message) => decodeTrafficFilter(message) ?? []);
}

/** What is not as `shapeLeaving()` makes it, in words that follow the link's name. */
export function leavingProblems(
  namespace: NetworkNamespace,
  ifindex: number,
  shape: Shape,
  selection: Selection,
): readonly string[] {
  const root = readRootQdisc(namespace, ifindex);
  const kind = selection.subnets.length === 0 ? "tbf" : "htb";
  if (root?.handle !== rootHandle || root.kind !== kind) return [`has no ${kind} qdisc 1: at its root`];
  if (kind === "tbf") return root.tokenBucket ? shapeProblems(root.tokenBucket, shape) : [];
  const problems: string[] = [];
  if (root.hierarchy?.defaultClass !== defaultClass(selection))
    problems.push("shapes what it should let pass");
  const found = namespace
    .dump(getTrafficClasses(ifindex))
    .map(decodeTrafficClass)
    .find((each) => each?.classId === shapedClass);
  if (found) problems.push(...shapeProblems(found, shape));
  else problems.push("has no class 1:1");
  const expected = leavingFilters(ifindex, selection);
  problems.push(...filterProblems(expected, readFilters(namespace, { ifindex, parent: rootHandle })));
  return problems;
}

/** What is not as `redirectArriving()` makes it, in words that follow the link's name. */
export function arrivingProblems(
  namespace: NetworkNamespace,
  ifindex: number,
  redirectTo: number,
  selection: Selection,
): readonly string[] {
  if (!readArrivingQdisc(namespace, ifindex)) return ["has no ingress qdisc"];
  const expected = arrivingFilters(ifindex, redirectTo, selection);
  return filterProblems(expected, readFilters(namespace, { ifindex, parent: arrivingParent }));
}

function shapeProblems(
  found: { readonly bytesPerSecond: bigint; readonly burstBytes: number; readonly limitBytes?: number },
  wanted: Shape,
): readonly string[] {
  const problems: string[] = [];
  if (found.bytesPerSecond !== wanted.bytesPerSecond) {
    problems.push(`lets ${found.bytesPerSecond} bytes a second through, not ${wanted.bytesPerSecond}`);
  }
  if (!isSameBurst(found.burstBytes, wanted)) {
    problems.push(`has a burst of ${found.burstBytes} bytes, not ${wanted.burstBytes}`);
  }
  if (found.limitBytes !== undefined && found.limitBytes !== wanted.limitBytes) {
    problems.push(`lets ${found.limitBytes} bytes wait, not ${wanted.limitBytes}`);
  }
  return problems;
}

/** The kernel keeps a burst as time, and tells it in ticks of 64 ns, of which 2^32 are 274 seconds. */
function isSameBurst(found: number, { burstBytes, bytesPerSecond }: Shape): boolean {
  const perTick = Number(bytesPerSecond) * 64e-9;
  if (burstBytes / perTick >= 2 ** 32 - 1) return true;
  return Math.abs(found - burstBytes) <= 2 * perTick + burstBytes / 1000 + 2;
}

function filterProblems(
  expected: readonly TrafficFilter[],
  present: readonly TrafficFilter[],
): readonly string[] {
  const texts = new Set(present.map(filterText));
  const missing = expected.filter((filter) => !texts.has(filterText(filter))).length;
  return missing === 0 ? [] : [`lacks ${missing} of ${expected.length} filters`];
}

/** Without priority and unused class, which are others where the reference plugin has made it. */
function filterText({ protocol, keys, classId, redirectTo }: TrafficFilter): string {
  const words = keys.map(({ offset, mask, value }) => [offset, mask, value]);
  return JSON.stringify([protocol, words, redirectTo === undefined ? (classId ?? 0) : `to ${redirectTo}`]);
}
