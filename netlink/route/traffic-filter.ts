import { attributeTable, listOf } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { bytes, type Codec, expectAtLeast, text, u32 } from "#netlink/codec.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { creationFlags, RouteMessage } from "./constant.ts";
import { trafficHeaderBytes, writeTrafficHeader } from "./traffic-header.ts";

/** Parent of filters for what arrives, of an ingress qdisc and of a clsact: ffff:fff2 */
export const arrivingParent = 0xfffffff2;

/** ETH_P_*: include/uapi/linux/if_ether.h */
export const EtherType = { all: 3, ipv4: 0x0800, ipv6: 0x86dd } as const;

/** Four bytes of a packet, counted from its network header, that have to be `value` where `mask` has bits. */
export interface PacketKey {
  readonly offset: number;
  readonly mask: number;
  readonly value: number;
}

export interface FilterKey {
  readonly ifindex: number;
  /** The qdisc's handle, or `arrivingParent`. */
  readonly parent: number;
  /** 1 to 65535; lower ones are asked first. All filters of one priority have one protocol. */
  readonly priority: number;
  /** EtherType */
  readonly protocol: number;
}

/** A filter of kind u32, which matches where all keys do; one without keys matches always. */
export interface TrafficFilter extends FilterKey {
  readonly keys: readonly PacketKey[];
  /** Class that the packet is for. Without one, and without `redirectTo`, it passes as if there were no filter. */
  readonly classId?: number | undefined;
  /** ifindex of the link that takes the packet over. */
  readonly redirectTo?: number | undefined;
}

interface Selector {
  readonly keys: readonly PacketKey[];
}

/** TC_U32_TERMINAL */
const terminalFlag = 1;
const selectorBytes = 16;
const keyBytes = 16;

/** struct tc_u32_sel, and a struct tc_u32_key for each key */
const selector: Codec<Selector> = {
  write(into, { keys }) {
    into.u8(terminalFlag).u8(0).u8(Math.max(keys.length, 1)).zeros(13);
    for (const { offset, mask, value } of keys.length === 0 ? [matchAll] : keys) {
      into.u32be(mask).u32be(value).i32(offset).zeros(4);
    }
  },
  read(payload) {
    expectAtLeast(payload, selectorBytes);
    const count = payload[2] ?? 0;
    expectAtLeast(payload, selectorBytes + count * keyBytes);
    const view = viewOf(payload);
    const keys = Array.from({ length: count }, (_, index): PacketKey => {
      const at = selectorBytes + index * keyBytes;
      return {
        mask: view.getUint32(at),
        value: view.getUint32(at + 4),
        offset: view.getInt32(at + 8, hostLittleEndian),
      };
    });
    return { keys: keys.filter(({ mask }) => mask !== 0) };
  },
};

const matchAll: PacketKey = { offset: 0, mask: 0, value: 0 };

/** TC_ACT_STOLEN: whoever sent it on does not see it again. */
const stolen = 4;
/** TCA_EGRESS_REDIR */
const redirect = 1;

/** struct tc_mirred, of which the target */
const mirred: Codec<number> = {
  write(into, ifindex) {
    into.zeros(8).i32(stolen).zeros(8).i32(redirect).u32(ifindex);
  },
  read(payload) {
    expectAtLeast(payload, 28);
    return viewOf(payload).getUint32(24, hostLittleEndian);
  },
};

/** TCA_MIRRED_* */
const mirredOptions = attributeTable({ target: [2, mirred] });
/** TCA_ACT_* */
const action = attributeTable({ kind: [1, text], options: [2, { ...bytes, nested: true }] });
/** TCA_U32_* */
const options = attributeTable({
  classId: [1, u32],
  selector: [5, selector],
  actions: [7, listOf(action)],
});
/** TCA_* */
const attributes = attributeTable({ kind: [1, text], options: [2, { ...bytes, nested: true }] });

/** `tc filter add dev … parent … prio … protocol … u32 match … [flowid …] [action mirred egress redirect dev …]` */
export function newTrafficFilter(filter: TrafficFilter): Request {
  const { keys, classId, redirectTo } = filter;
  const target = redirectTo === undefined ? undefined : mirredOptions.encode({ target: redirectTo });
  const writer = new Writer(256);
  writeTrafficHeader(writer, headerOf(filter));
  attributes.write(writer, {
    kind: "u32",
    options: options.encode({
      classId,
      selector: { keys },
      actions: target && [{ kind: "mirred", options: target }],
    }),
  });
  return {
    op: `add filter to link ${filter.ifindex}`,
    type: RouteMessage.NewTrafficFilter,
    flags: creationFlags(),
    body: writer.finish(),
  };
}

/** `tc filter del dev … parent … prio …`: all of that priority. ENOENT or EINVAL where there is none. */
export function deleteTrafficFilters(key: FilterKey): Request {
  const writer = new Writer(trafficHeaderBytes);
  writeTrafficHeader(writer, headerOf(key));
  return {
    op: `delete filter of link ${key.ifindex}`,
    type: RouteMessage.DeleteTrafficFilter,
    flags: 0,
    body: writer.finish(),
  };
}

/** For `dump`: `tc filter show dev … parent …` */
export function getTrafficFilters(key: Pick<FilterKey, "ifindex" | "parent">): Request {
  const writer = new Writer(trafficHeaderBytes);
  writeTrafficHeader(writer, { ifindex: key.ifindex, parent: key.parent });
  return {
    op: `read filters of link ${key.ifindex}`,
    type: RouteMessage.GetTrafficFilter,
    flags: 0,
    body: writer.finish(),
  };
}

/** Reads RTM_NEWTFILTER; undefined for what is no filter of kind u32, as its hash tables. @throws {DecodeError} */
export function decodeTrafficFilter({ body }: Message): TrafficFilter | undefined {
  expectAtLeast(body, trafficHeaderBytes);
  const view = viewOf(body);
  const { kind, options: data } = attributes.decode(body.subarray(trafficHeaderBytes));
  const found = kind === "u32" && data ? options.decode(data) : undefined;
  if (!found?.selector) return undefined;
  const info = view.getUint32(16, hostLittleEndian);
  const redirects = (found.actions ?? []).filter(({ kind }) => kind === "mirred");
  const redirectTo = redirects.flatMap(({ options }) => {
    const target = options && mirredOptions.decode(options).target;
    return target === undefined ? [] : [target];
  })[0];
  return {
    ifindex: view.getInt32(4, hostLittleEndian),
    parent: view.getUint32(12, hostLittleEndian),
    priority: info >>> 16,
    protocol: swap16(info & 0xffff),
    keys: found.selector.keys,
    classId: found.classId,
    redirectTo,
  };
}

/** In `tcm_info` the protocol is in network byte order. */
function headerOf({ ifindex, parent, priority, protocol }: FilterKey) {
  if (priority < 1 || priority > 0xffff) throw new RangeError(`Cannot use filter priority ${priority}`);
  return { ifindex, parent, info: ((priority << 16) | swap16(protocol)) >>> 0 };
}

function swap16(value: number): number {
  if (!hostLittleEndian) return value;
  return ((value & 0xff) << 8) | (value >>> 8);
}
