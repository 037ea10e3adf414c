import { type Cidr, formatCidr } from "#net/cidr.ts";
import { formatIp, type IpAddress, ipBits, ipFromBytes, ipToBytes } from "#net/ip.ts";
import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { type Codec, expectAtLeast, ip, text, u8, u32 } from "#netlink/codec.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { Scope } from "./address.ts";
import { creationFlags, Family, familyNumber, type Presence, RouteMessage } from "./constant.ts";

/** RTN_*: include/uapi/linux/rtnetlink.h */
export const RouteType = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
} as const;

/** RTPROT_*: who made a route */
export const RouteProtocol = {
  unspecified: 0,
  redirect: 1,
  kernel: 2,
  boot: 3,
  static: 4,
  ra: 9,
  dhcp: 16,
} as const;

/** RT_TABLE_* */
export const RouteTable = { unspecified: 0, default: 253, main: 254, local: 255 } as const;

/** RTNH_F_* and RTM_F_* */
export const RouteFlag = {
  Dead: 0x1,
  OnLink: 0x4,
  Offload: 0x8,
  LinkDown: 0x10,
  Cloned: 0x200,
  FibMatch: 0x2000,
} as const;

/** RTAX_*: what connections over this route start from */
const metrics = attributeTable({
  lock: [1, u32], // bit per metric that path MTU discovery and the like must not change
  mtu: [2, u32],
  window: [3, u32],
  rtt: [4, u32],
  advertisedMss: [8, u32],
  hopLimit: [10, u32],
  initialCongestionWindow: [11, u32],
  features: [12, u32],
  initialReceiveWindow: [14, u32],
  congestionControl: [16, text],
});

/** struct rtvia: a gateway of another family than the route's */
const via: Codec<IpAddress> = {
  write(into, value) {
    into.u16(familyNumber(value.family)).bytes(ipToBytes(value));
  },
  read(payload) {
    if (payload.length !== 6 && payload.length !== 18)
      throw new DecodeError(`${payload.length} bytes instead of 6 or 18`);
    return ipFromBytes(payload.subarray(2));
  },
};

const nextHopAttributes = attributeTable({ gateway: [5, ip], via: [18, via] });

interface RawNextHop {
  readonly ifindex: number;
  readonly flags: number;
  readonly weight: number;
  readonly attributes: TypeOf<typeof nextHopAttributes>;
}

/** struct rtnexthop, one after the other, each with attributes behind it */
const nextHops: Codec<readonly RawNextHop[]> = {
  write(into, hops) {
    for (const { ifindex, flags, weight, attributes } of hops) {
      const inner = nextHopAttributes.encode(attributes);
      into.u16(8 + inner.length).u8(flags);
      into.u8(weight - 1).i32(ifindex);
      into.bytes(inner).align();
    }
  },
  read(payload) {
    const view = viewOf(payload);
    const hops: RawNextHop[] = [];
    for (let at = 0; at < payload.length; ) {
      const left = payload.length - at;
      const length = left < 8 ? 0 : view.getUint16(at, hostLittleEndian);
      if (length < 8 || length > left) throw new DecodeError(`next hop claims ${length} of ${left} bytes`);
      hops.push({
        flags: view.getUint8(at + 2),
        weight: view.getUint8(at + 3) + 1,
        ifindex: view.getInt32(at + 4, hostLittleEndian),
        attributes: nextHopAttributes.decode(payload.subarray(at + 8, at + length)),
      });
      at += (length + 3) & ~3;
    }
    return hops;
  },
};

/** RTA_*: include/uapi/linux/rtnetlink.h */
const attributes = attributeTable({
  destination: [1, ip],
  source: [2, ip],
  inputIfindex: [3, u32],
  ifindex: [4, u32],
  gateway: [5, ip],
  priority: [6, u32],
  preferredSource: [7, ip],
  metrics: [8, metrics],
  nextHops: [9, nextHops],
  table: [15, u32],
  mark: [16, u32],
  via: [18, via],
  preference: [20, u8],
  expires: [23, u32],
  uid: [25, u32],
});

const headerBytes = 12;

export interface NextHop {
  readonly ifindex?: number | undefined;
  readonly gateway?: IpAddress | undefined;
  /** 1 to 256 */
  readonly weight?: number | undefined;
  readonly onLink?: boolean | undefined;
}

/** Which route is meant. */
export interface RouteKey {
  readonly family: 4 | 6;
  /** The default route where there is none; host bits must be clear. */
  readonly destination?: Cidr | undefined;
  readonly gateway?: IpAddress | undefined;
  readonly ifindex?: number | undefined;
  /** Preferred source address */
  readonly source?: IpAddress | undefined;
  /** The lower is taken: `metric` of iproute2, RTA_PRIORITY. */
  readonly metric?: number | undefined;
  /** RouteTable or any number; main by default */
  readonly table?: number | undefined;
  /** Scope. By default as iproute2 has it: link without gateway, host for local routes, else universe */
  readonly scope?: number | undefined;
  /** RouteType; unicast by default */
  readonly type?: number | undefined;
  /** RouteProtocol; boot by default for new ones, any for deleting */
  readonly protocol?: number | undefined;
}

export interface NewRoute extends RouteKey {
  /** The gateway is on the link, although no prefix there says so. */
  readonly onLink?: boolean | undefined;
  /** Upper bound of the path MTU, bytes */
  readonly mtu?: number | undefined;
  /** What TCP offers as maximum segment size, bytes */
  readonly advertisedMss?: number | undefined;
  /** Several ways at once, instead of `gateway` and `ifindex` */
  readonly nextHops?: readonly NextHop[] | undefined;
  readonly presence?: Presence | undefined;
}

/** One route as the kernel reports it. */
export interface Route {
  readonly family: 4 | 6;
  /** Absent: the default route */
  readonly destination?: Cidr | undefined;
  readonly gateway?: IpAddress | undefined;
  readonly ifindex?: number | undefined;
  readonly source?: IpAddress | undefined;
  readonly metric?: number | undefined;
  readonly table: number;
  readonly scope: number;
  readonly type: number;
  readonly protocol: number;
  /** RouteFlag */
  readonly flags: number;
  readonly onLink: boolean;
  readonly mtu?: number | undefined;
  readonly advertisedMss?: number | undefined;
  readonly nextHops?: readonly NextHop[] | undefined;
}

/** `ip route add|replace|append …`. EEXIST; ENETUNREACH where the gateway is not on a link; EINVAL for host bits. */
export function newRoute(route: NewRoute): Request {
  return {
    op: `add ${routeText(route)}`,
    type: RouteMessage.NewRoute,
    flags: creationFlags(route.presence),
    body: encode(route, {
      type: RouteType.unicast,
      protocol: RouteProtocol.boot,
      scope: defaultScope(route),
    }),
  };
}

/**
 * `ip route del …`: the first that matches everything given. ESRCH where there is none; ENOENT for the default route of
 * IPv6, whose place in the tree is never empty (net/ipv6/route.c, __ip6_del_rt).
 */
export function deleteRoute(route: RouteKey): Request {
  return {
    op: `delete ${routeText(route)}`,
    type: RouteMessage.DeleteRoute,
    flags: 0,
    body: encode(route, { type: 0, protocol: 0, scope: route.family === 4 ? Scope.nowhere : Scope.universe }),
  };
}

export interface RouteFilter {
  readonly family?: 4 | 6 | undefined;
  /** Main and local and all others by default */
  readonly table?: number | undefined;
  readonly ifindex?: number | undefined;
}

/** For `dump`: `ip route show [table …] [dev …]`. The kernel filters. */
export function getRoutes(filter: RouteFilter = {}): Request {
  const writer = new Writer(32);
  writer.u8(familyNumber(filter.family)).zeros(headerBytes - 1);
  attributes.write(writer, { table: filter.table, ifindex: filter.ifindex });
  return { op: "read routes", type: RouteMessage.GetRoute, flags: 0, body: writer.finish() };
}

export interface RouteQuestion {
  readonly destination: IpAddress;
  readonly source?: IpAddress | undefined;
  /** Leave by this link */
  readonly ifindex?: number | undefined;
  /** As if it had come in by this link */
  readonly inputIfindex?: number | undefined;
  readonly mark?: number | undefined;
  /** Answer with the table's entry instead of the result for this one address */
  readonly fibMatch?: boolean | undefined;
}

/** `ip route get ADDRESS …`: which way a packet would go. ENETUNREACH, EHOSTUNREACH, EACCES where none. */
export function getRouteTo(question: RouteQuestion): Request {
  const { destination, source, ifindex, inputIfindex, mark } = question;
  const bits = ipBits(destination.family);
  const writer = new Writer(64);
  writer
    .u8(familyNumber(destination.family))
    .u8(bits)
    .u8(source ? bits : 0);
  writer.zeros(5).u32(question.fibMatch ? RouteFlag.FibMatch : 0);
  attributes.write(writer, { destination, source, ifindex, inputIfindex, mark });
  return {
    op: `find the route to ${formatIp(destination)}`,
    type: RouteMessage.GetRoute,
    flags: 0,
    body: writer.finish(),
  };
}

/** Reads RTM_NEWROUTE or RTM_DELROUTE of IPv4 or IPv6. @throws {DecodeError} */
export function decodeRoute({ body }: Message): Route {
  expectAtLeast(body, headerBytes);
  const view = viewOf(body);
  const number = view.getUint8(0);
  if (number !== Family.Ipv4 && number !== Family.Ipv6)
    throw new DecodeError(`route of address family ${number}`);
  const family = number === Family.Ipv4 ? 4 : 6;
  const values = attributes.decode(body.subarray(headerBytes));
  const prefixLength = Math.min(view.getUint8(1), ipBits(family));
  const unspecified: IpAddress = { family, value: 0n };
  const flags = view.getUint32(8, hostLittleEndian);
  return {
    family,
    destination:
      prefixLength === 0 && !values.destination
        ? undefined
        : { address: values.destination ?? unspecified, prefixLength },
    gateway: values.gateway ?? values.via,
    ifindex: values.ifindex,
    source: values.preferredSource,
    metric: values.priority,
    // The header has room for eight bits only.
    table: values.table ?? view.getUint8(4),
    protocol: view.getUint8(5),
    scope: view.getUint8(6),
    type: view.getUint8(7),
    flags,
    onLink: (flags & RouteFlag.OnLink) !== 0,
    mtu: values.metrics?.mtu,
    advertisedMss: values.metrics?.advertisedMss,
    nextHops: values.nextHops?.map((hop) => ({
      ifindex: hop.ifindex,
      gateway: hop.attributes.gateway ?? hop.attributes.via,
      weight: hop.weight,
      onLink: (hop.flags & RouteFlag.OnLink) !== 0,
    })),
  };
}

function encode(route: NewRoute, fallback: { type: number; protocol: number; scope: number }): Uint8Array {
  const { family, destination, mtu, advertisedMss } = route;
  const table = route.table ?? RouteTable.main;
  const writer = new Writer();
  writer
    .u8(familyNumber(family))
    .u8(destination?.prefixLength ?? 0)
    .u8(0)
    .u8(0);
  writer.u8(table > 0xff ? RouteTable.unspecified : table).u8(route.protocol ?? fallback.protocol);
  writer.u8(route.scope ?? fallback.scope).u8(route.type ?? fallback.type);
  writer.u32(route.onLink && !route.nextHops ? RouteFlag.OnLink : 0);
  attributes.write(writer, {
    destination: destination?.address,
    ifindex: route.ifindex,
    ...towards(family, route.gateway),
    priority: route.metric,
    preferredSource: route.source,
    metrics: mtu === undefined && advertisedMss === undefined ? undefined : { mtu, advertisedMss },
    nextHops: route.nextHops?.map((hop) => ({
      ifindex: hop.ifindex ?? 0,
      flags: hop.onLink ? RouteFlag.OnLink : 0,
      weight: hop.weight ?? 1,
      attributes: towards(family, hop.gateway),
    })),
    table: table > 0xff ? table : undefined,
  });
  return writer.finish();
}

function towards(family: 4 | 6, gateway: IpAddress | undefined): { gateway?: IpAddress; via?: IpAddress } {
  if (!gateway) return {};
  return gateway.family === family ? { gateway } : { via: gateway };
}

/** iproute2, ip/iproute.c iproute_modify(): IPv6 knows no scopes. */
function defaultScope(route: NewRoute): number {
  if (route.family === 6) return Scope.universe;
  if (route.type === RouteType.local) return Scope.host;
  const direct: readonly (number | undefined)[] = [
    undefined,
    RouteType.unicast,
    RouteType.broadcast,
    RouteType.multicast,
  ];
  return !route.gateway && !route.nextHops && direct.includes(route.type) ? Scope.link : Scope.universe;
}

function routeText(route: RouteKey): string {
  const to = route.destination
    ? `route ${formatCidr(route.destination)}`
    : `IPv${route.family} default route`;
  return route.gateway ? `${to} via ${formatIp(route.gateway)}` : to;
}
