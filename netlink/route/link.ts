import type { MacAddress } from "#net/mac.ts";
import { attributeTable } from "#netlink/attribute.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { creationFlags, RouteMessage } from "./constant.ts";
import {
  type LinkHeader,
  type LinkMessage,
  type LinkStatistics,
  linkHeaderBytes,
  linkRows,
  readLinkHeader,
  writeLinkHeader,
} from "./link-attributes.ts";
import {
  type KindData,
  type LinkInfo,
  type LinkInfoSummary,
  linkInfo,
  linkInfoSummary,
} from "./link-info.ts";

/** IFF_*: include/uapi/linux/if.h */
export const LinkFlag = {
  Up: 0x1,
  Broadcast: 0x2,
  Loopback: 0x8,
  PointToPoint: 0x10,
  Running: 0x40,
  NoArp: 0x80,
  Promiscuous: 0x100,
  AllMulticast: 0x200,
  Multicast: 0x1000,
  LowerUp: 0x10000,
} as const;

/** IF_OPER_*, RFC 2863 section 3.1.14 */
const operStates = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"] as const;
export type OperState = (typeof operStates)[number];

const attributes = attributeTable({ ...linkRows, info: [18, linkInfo] });

/** One link as the kernel reports it. `kind` and the kind's own attributes (`bridge`, `vxlan` …) are from LinkInfo. */
export interface Link extends LinkInfo {
  readonly ifindex: number;
  readonly name: string;
  readonly altNames: readonly string[];
  /** ARPHRD_*: 1 Ethernet, 772 loopback, 65534 none */
  readonly type: number;
  /** LinkFlag */
  readonly flags: number;
  /** Set to be up; whether it carries is `operState`. */
  readonly up: boolean;
  readonly operState: OperState;
  readonly carrier?: boolean | undefined;
  /** Absent where the link has none of six bytes */
  readonly mac?: MacAddress | undefined;
  readonly mtu: number;
  readonly minMtu?: number | undefined;
  readonly maxMtu?: number | undefined;
  /** ifindex of the bridge, VRF or bond that it is a port of */
  readonly master?: number | undefined;
  /** ifindex of the link below (vlan, macvlan) or of a veth's peer */
  readonly parent?: number | undefined;
  /** Namespace id in which `parent` counts, seen from here; absent where it is the same. -1: no id was given yet */
  readonly parentNamespaceId?: number | undefined;
  readonly group: number;
  readonly alias?: string | undefined;
  readonly txQueueLength: number;
  /** What the hardware was made with, whatever `mac` is now; absent where there is no hardware */
  readonly permanentMac?: MacAddress | undefined;
  /** The device below and its bus: "0000:03:00.0" on "pci". Absent on kernels before 5.14, and without hardware */
  readonly parentDevice?: string | undefined;
  readonly parentBus?: string | undefined;
  /** How many ask for promiscuous mode */
  readonly promiscuity: number;
  readonly qdisc?: string | undefined;
  readonly statistics?: LinkStatistics | undefined;
}

/**
 * What most callers want to know of a link. Bridges have a hundred attributes, so reading all of them takes five times
 * as long.
 */
export interface LinkSummary
  extends Pick<
      Link,
      | "ifindex"
      | "name"
      | "type"
      | "flags"
      | "up"
      | "operState"
      | "mac"
      | "mtu"
      | "master"
      | "parent"
      | "parentNamespaceId"
      | "alias"
    >,
    LinkInfoSummary {}

/** A link by its ifindex or by a name, which may be an alternative one. */
export type LinkTarget = number | string;

/** What can be set on a link that exists. */
export interface LinkChanges {
  /** A new name. The link has to be down on kernels before 6.1, and to be named by ifindex. */
  readonly name?: string | undefined;
  readonly up?: boolean | undefined;
  readonly mtu?: number | undefined;
  readonly mac?: MacAddress | undefined;
  /** ifindex of a bridge, VRF …; 0 takes the link out */
  readonly master?: number | undefined;
  readonly group?: number | undefined;
  /** Empty removes it */
  readonly alias?: string | undefined;
  readonly txQueueLength?: number | undefined;
  readonly promiscuous?: boolean | undefined;
  readonly allMulticast?: boolean | undefined;
  readonly arp?: boolean | undefined;
  /** Moves it into the namespace of an open /proc/PID/ns/net. Loses addresses, routes and master. */
  readonly namespaceFd?: number | undefined;
  /** AddressGeneration: how it gets an IPv6 address when it comes up. Sent by itself: the kernel looks at it last. */
  readonly addressGeneration?: number | undefined;
  /** Only for a link that has a bridge as master already */
  readonly bridgePort?: LinkInfo["bridgePort"];
  /** With the link's `kind`: attributes of its own to change */
  readonly kind?: string | undefined;
}

/** What is decided when a link is made. */
interface LinkOrigin {
  /** Ask for this ifindex; EBUSY where it is taken */
  readonly ifindex?: number | undefined;
  /** ifindex of the link below */
  readonly parent?: number | undefined;
  /** Namespace id in which `parent` counts, with `namespaceFd` for the link itself */
  readonly parentNamespaceId?: number | undefined;
  readonly txQueues?: number | undefined;
  readonly rxQueues?: number | undefined;
}

export interface NewLink extends Omit<LinkChanges, "bridgePort">, LinkOrigin, KindData {
  readonly name: string;
  readonly kind: string;
}

/**
 * The far end of a veth pair. It is born down: the kernel connects the ends last, so setting it up at once fails with
 * ENOTCONN (drivers/net/veth.c, veth_open).
 */
export interface VethPeer {
  readonly name: string;
  /** Where it is born, under its final name; the namespace of the near end where there is none. */
  readonly namespaceFd?: number | undefined;
  readonly mtu?: number | undefined;
  readonly mac?: MacAddress | undefined;
  readonly txQueueLength?: number | undefined;
  readonly ifindex?: number | undefined;
}

/**
 * `ip link add NAME type KIND …`: everything in one message, up and as a port of its master where asked.
 * The kernel refuses with EEXIST where the name is taken, EOPNOTSUPP where it does not know the kind.
 */
export function newLink(link: NewLink): Request {
  return {
    op: `create ${link.kind} link "${link.name}"`,
    type: RouteMessage.NewLink,
    flags: creationFlags(),
    body: encodeLink({ ifindex: link.ifindex, name: link.name }, link),
  };
}

/** For `NewLink.veth`: `ip link add … type veth peer name NAME netns …` */
export function vethPeer(peer: VethPeer): LinkMessage {
  const { name, namespaceFd, mtu, mac, txQueueLength } = peer;
  return {
    header: headerOf(peer.ifindex, {}),
    attributes: { name, namespaceFd, mtu, address: mac, txQueueLength },
  };
}

/** `ip link set TARGET …`. ENODEV where there is none. */
export function setLink(target: LinkTarget, changes: LinkChanges & KindData): Request {
  if (typeof target === "string" && changes.name !== undefined) {
    throw new TypeError(`Cannot rename link "${target}" by its name: the kernel wants the ifindex`);
  }
  const where = typeof target === "number" ? { ifindex: target, name: changes.name } : { name: target };
  return {
    op: `change ${linkText(target)}`,
    type: RouteMessage.NewLink,
    flags: 0,
    body: encodeLink(where, changes),
  };
}

/** `ip link del TARGET`. Takes about 15 ms in the kernel: see `deleteLinkSoon` in `link-deletion.ts`. */
export function deleteLink(target: LinkTarget): Request {
  return {
    op: `delete ${linkText(target)}`,
    type: RouteMessage.DeleteLink,
    flags: 0,
    body: encodeTarget(target),
  };
}

/** `ip link del group NUMBER`: all of them for the price of one. ENODEV where the group is empty, EPERM for group 0. */
export function deleteLinkGroup(group: number): Request {
  const writer = new Writer();
  writeLinkHeader(writer, {});
  attributes.write(writer, { group });
  return {
    op: `delete links of group ${group}`,
    type: RouteMessage.DeleteLink,
    flags: 0,
    body: writer.finish(),
  };
}

/** RTEXT_FILTER_SKIP_STATS: include/uapi/linux/rtnetlink.h */
const skipStatistics = 8;

/**
 * `ip link show TARGET`. ENODEV where there is none.
 * @param options.statistics false: without the counters, which the kernel adds up over all processors
 */
export function getLink(target: LinkTarget, options: { readonly statistics?: boolean } = {}): Request {
  const extMask = options.statistics === false ? skipStatistics : undefined;
  return {
    op: `read ${linkText(target)}`,
    type: RouteMessage.GetLink,
    flags: 0,
    body: encodeTarget(target, extMask),
  };
}

/** For `dump`: `ip link show [master IFINDEX] [type KIND]`, with `statistics: false` without the counters */
export function getLinks(
  filter: { readonly master?: number; readonly kind?: string; readonly statistics?: boolean } = {},
): Request {
  const writer = new Writer();
  writeLinkHeader(writer, {});
  const info = filter.kind === undefined ? undefined : { kind: filter.kind };
  const extMask = filter.statistics === false ? skipStatistics : undefined;
  attributes.write(writer, { master: filter.master, info, extMask });
  return { op: "read links", type: RouteMessage.GetLink, flags: 0, body: writer.finish() };
}

/** Reads RTM_NEWLINK or RTM_DELLINK. @throws {DecodeError} */
export function decodeLink(message: Message): Link {
  const { ifindex, type, flags } = readLinkHeader(message.body);
  const values = attributes.decode(message.body.subarray(linkHeaderBytes));
  const { info, address, permanentAddress } = values;
  return {
    ...info,
    ifindex,
    name: values.name ?? "",
    altNames: values.properties?.altNames ?? [],
    type,
    flags,
    up: (flags & LinkFlag.Up) !== 0,
    operState: operStates[values.operState ?? 0] ?? "unknown",
    carrier: values.carrier,
    mac: typeof address === "string" ? address : undefined,
    mtu: values.mtu ?? 0,
    minMtu: values.minMtu,
    maxMtu: values.maxMtu,
    master: values.master,
    parent: values.parent,
    parentNamespaceId: values.parentNamespaceId,
    group: values.group ?? 0,
    alias: values.alias,
    txQueueLength: values.txQueueLength ?? 0,
    permanentMac: typeof permanentAddress === "string" ? permanentAddress : undefined,
    parentDevice: values.parentDevice,
    parentBus: values.parentBus,
    promiscuity: values.promiscuity ?? 0,
    qdisc: values.qdisc,
    statistics: values.statistics,
    unknown: values.unknown,
  };
}

const pickSummary = attributeTable({ ...linkRows, info: [18, linkInfoSummary] }).picker(
  "name",
  "operState",
  "address",
  "mtu",
  "master",
  "parent",
  "parentNamespaceId",
  "alias",
  "info",
);

/** Reads RTM_NEWLINK or RTM_DELLINK. @throws {DecodeError} */
export function decodeLinkSummary(message: Message): LinkSummary {
  const { ifindex, type, flags } = readLinkHeader(message.body);
  const values = pickSummary(message.body.subarray(linkHeaderBytes));
  const { info, address } = values;
  return {
    kind: info?.kind,
    bridge: info?.bridge,
    bridgePort: info?.bridgePort,
    ifindex,
    name: values.name ?? "",
    type,
    flags,
    up: (flags & LinkFlag.Up) !== 0,
    operState: operStates[values.operState ?? 0] ?? "unknown",
    mac: typeof address === "string" ? address : undefined,
    mtu: values.mtu ?? 0,
    master: values.master,
    parent: values.parent,
    parentNamespaceId: values.parentNamespaceId,
    alias: values.alias,
  };
}

/** The first link among a request's messages. @throws {DecodeError} */
export function firstLink(messages: readonly Message[]): Link | undefined {
  const message = messages.find(({ type }) => type === RouteMessage.NewLink);
  return message && decodeLink(message);
}

/** The same, of a link that is not read whole. @throws {DecodeError} */
export function firstLinkSummary(messages: readonly Message[]): LinkSummary | undefined {
  const message = messages.find(({ type }) => type === RouteMessage.NewLink);
  return message && decodeLinkSummary(message);
}

export function linkText(target: LinkTarget): string {
  return typeof target === "number" ? `link ${target}` : `link "${target}"`;
}

/** IFNAMSIZ without the NUL: longer ones can only be alternative names. */
const maxNameBytes = 15;

function encodeTarget(target: LinkTarget, extMask?: number): Uint8Array {
  const writer = new Writer(64);
  writeLinkHeader(writer, typeof target === "number" ? { ifindex: target } : {});
  if (typeof target === "string") attributes.write(writer, nameAttribute(target));
  if (extMask !== undefined) attributes.write(writer, { extMask });
  return writer.finish();
}

function nameAttribute(name: string): { readonly name: string } | { readonly altName: string } {
  return Buffer.byteLength(name) > maxNameBytes ? { altName: name } : { name };
}

type FlagChanges = Pick<LinkChanges, "up" | "promiscuous" | "allMulticast" | "arp">;

function headerOf(ifindex: number | undefined, changes: FlagChanges): LinkHeader {
  let flags = 0;
  let change = 0;
  const take = (bit: number, value: boolean | undefined) => {
    if (value === undefined) return;
    change |= bit;
    if (value) flags |= bit;
  };
  take(LinkFlag.Up, changes.up);
  take(LinkFlag.Promiscuous, changes.promiscuous);
  take(LinkFlag.AllMulticast, changes.allMulticast);
  take(LinkFlag.NoArp, changes.arp === undefined ? undefined : !changes.arp);
  return { ...(ifindex !== undefined && { ifindex }), flags, change };
}

interface Where {
  readonly ifindex?: number | undefined;
  readonly name?: string | undefined;
}

function encodeLink(where: Where, link: LinkChanges & LinkOrigin & KindData): Uint8Array {
  const writer = new Writer();
  writeLinkHeader(writer, headerOf(where.ifindex, link));
  const hasInfo = link.kind !== undefined || link.bridgePort !== undefined;
  attributes.write(writer, {
    ...(where.name !== undefined && nameAttribute(where.name)),
    address: link.mac,
    mtu: link.mtu,
    parent: link.parent,
    master: link.master,
    txQueueLength: link.txQueueLength,
    alias: link.alias,
    group: link.group,
    namespaceFd: link.namespaceFd,
    txQueues: link.txQueues,
    rxQueues: link.rxQueues,
    parentNamespaceId: link.parentNamespaceId,
    info: hasInfo ? link : undefined,
    families:
      link.addressGeneration === undefined
        ? undefined
        : { inet6: { addressGeneration: link.addressGeneration } },
  });
  return writer.finish();
}
