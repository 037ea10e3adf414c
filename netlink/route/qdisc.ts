import { attributeTable } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { bytes, type Codec, expectAtLeast, text, u8, u32, u64 } from "#netlink/codec.ts";
import { type Message, MessageFlag, type Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { creationFlags, RouteMessage } from "./constant.ts";
import {
  bytesIn,
  type TrafficHeader,
  ticksFor,
  trafficHeaderBytes,
  writeTrafficHeader,
} from "./traffic-header.ts";

/** TC_H_*: include/uapi/linux/pkt_sched.h. A handle is major << 16 | minor. */
export const QdiscParent = { root: 0xffffffff, ingress: 0xfffffff1 } as const;

/** Handle of an ingress or clsact qdisc: ffff: */
export const ingressHandle = 0xffff0000;

/** struct tc_ratespec, of which the rate: bytes per second. */
interface TokenBucketParameters {
  /** Saturated at 2^32 - 1, then `rate64` counts */
  readonly rate: number;
  readonly peakRate: number;
  /** Bytes that may wait */
  readonly limit: number;
  /** Burst as time at that rate, in ticks of 64 ns */
  readonly bufferTicks: number;
  readonly mtuTicks: number;
}

/** TC_LINKLAYER_ETHERNET */
const ethernetLayer = 1;

/** struct tc_tbf_qopt */
const tokenBucketParameters: Codec<TokenBucketParameters> = {
  write(into, value) {
    for (const rate of [value.rate, value.peakRate]) {
      into
        .u8(0)
        .u8(rate === 0 ? 0 : ethernetLayer)
        .zeros(6);
      into.u32(rate);
    }
    into.u32(value.limit).u32(value.bufferTicks).u32(value.mtuTicks);
  },
  read(payload) {
    expectAtLeast(payload, 36);
    const view = viewOf(payload);
    return {
      rate: view.getUint32(8, hostLittleEndian),
      peakRate: view.getUint32(20, hostLittleEndian),
      limit: view.getUint32(24, hostLittleEndian),
      bufferTicks: view.getUint32(28, hostLittleEndian),
      mtuTicks: view.getUint32(32, hostLittleEndian),
    };
  },
};

/** TCA_TBF_* */
const tokenBucket = attributeTable({
  parameters: [1, tokenBucketParameters],
  rate64: [4, u64],
  burstBytes: [6, u32],
});

/** TCA_*: include/uapi/linux/rtnetlink.h. What the options mean depends on the kind. */
const attributes = attributeTable({
  kind: [1, text],
  options: [2, { ...bytes, nested: true }],
  hardwareOffload: [12, u8],
});

/** struct tc_htb_glob */
const hierarchyParameters: Codec<{ readonly defaultClass: number }> = {
  write(into, value) {
    // Version 3 of the protocol; a quantum is a tenth of the rate where a class says none.
    into.u32(3).u32(10).u32(value.defaultClass).zeros(8);
  },
  read(payload) {
    expectAtLeast(payload, 20);
    return { defaultClass: viewOf(payload).getUint32(8, hostLittleEndian) };
  },
};

/** TCA_HTB_* */
const hierarchy = attributeTable({ parameters: [2, hierarchyParameters] });

/** Token bucket filter: lets `bytesPerSecond` through, after a burst. */
export interface TokenBucket {
  readonly bytesPerSecond: bigint;
  /** What may pass at once; at least one packet of the link's MTU */
  readonly burstBytes: number;
  /** What may wait for tokens; more is dropped */
  readonly limitBytes: number;
}

/** Hierarchical token bucket: what shapes is its classes (`traffic-class.ts`). */
export interface Hierarchy {
  /** Minor number of the class for packets that no filter gives to one; 0 lets them pass unshaped. */
  readonly defaultClass: number;
}

export interface QdiscKey {
  readonly ifindex: number;
  /** QdiscParent, or the handle of a class; root by default */
  readonly parent?: number | undefined;
  readonly handle?: number | undefined;
}

export interface NewQdisc extends QdiscKey {
  /** "tbf", "ingress", "clsact", "fq_codel", "noqueue" … */
  readonly kind: string;
  readonly tokenBucket?: TokenBucket | undefined;
  /** With kind "htb". */
  readonly hierarchy?: Hierarchy | undefined;
  /** With kind "bfifo". */
  readonly fifo?: { readonly limitBytes: number } | undefined;
  /** Overwrite the one that is there instead of EEXIST */
  readonly replace?: boolean | undefined;
}

/** One queueing discipline as the kernel reports it. */
export interface Qdisc {
  readonly ifindex: number;
  readonly kind: string;
  readonly handle: number;
  readonly parent: number;
  /** With kind "tbf". Burst is what the kernel's ticks of 64 ns make of it, so it may differ by a few bytes. */
  readonly tokenBucket?: TokenBucket | undefined;
  readonly hierarchy?: Hierarchy | undefined;
}

/** `tc qdisc add|replace dev … root|ingress KIND …` */
export function newQdisc(qdisc: NewQdisc): Request {
  const { kind } = qdisc;
  const isIngress = kind === "ingress" || kind === "clsact";
  const writer = new Writer(128);
  writeTrafficHeader(writer, {
    ifindex: qdisc.ifindex,
    parent: qdisc.parent ?? (isIngress ? QdiscParent.ingress : QdiscParent.root),
    handle: qdisc.handle ?? (isIngress ? ingressHandle : 0),
  });
  attributes.write(writer, { kind, options: encodeOptions(qdisc) });
  return {
    op: `add ${kind} qdisc to link ${qdisc.ifindex}`,
    type: RouteMessage.NewQdisc,
    flags: creationFlags(qdisc.replace ? "replace" : "exclusive"),
    body: writer.finish(),
  };
}

/** `tc qdisc del dev … root|ingress`. ENOENT or EINVAL where there is none that was set. */
export function deleteQdisc(qdisc: QdiscKey): Request {
  const op = `delete qdisc of link ${qdisc.ifindex}`;
  return { op, type: RouteMessage.DeleteQdisc, flags: 0, body: encodeKey(qdisc) };
}

/**
 * `tc qdisc show dev … root|ingress`. ENOENT where there is none. The kernel answers with a notification, which only
 * NLM_F_ECHO brings to the one who asked (net/sched/sch_api.c, tc_get_qdisc).
 */
export function getQdisc(qdisc: QdiscKey): Request {
  return {
    op: `read qdisc of link ${qdisc.ifindex}`,
    type: RouteMessage.GetQdisc,
    flags: MessageFlag.Echo,
    body: encodeKey(qdisc),
  };
}

/** For `dump`: `tc qdisc show`, of all links: the kernel does not filter here. */
export function getQdiscs(): Request {
  const body = encodeKey({ ifindex: 0, parent: 0 });
  return { op: "read qdiscs", type: RouteMessage.GetQdisc, flags: 0, body };
}

/** Reads RTM_NEWQDISC or RTM_DELQDISC. @throws {DecodeError} */
export function decodeQdisc({ body }: Message): Qdisc {
  expectAtLeast(body, trafficHeaderBytes);
  const view = viewOf(body);
  const { kind = "", options } = attributes.decode(body.subarray(trafficHeaderBytes));
  return {
    ifindex: view.getInt32(4, hostLittleEndian),
    handle: view.getUint32(8, hostLittleEndian),
    parent: view.getUint32(12, hostLittleEndian),
    kind,
    tokenBucket: kind === "tbf" && options ? decodeTokenBucket(options) : undefined,
    hierarchy: kind === "htb" && options ? hierarchy.decode(options).parameters : undefined,
  };
}

function encodeOptions({ tokenBucket, hierarchy: parameters, fifo }: NewQdisc): Uint8Array | undefined {
  if (tokenBucket) return encodeTokenBucket(tokenBucket);
  if (parameters) return hierarchy.encode({ parameters });
  // struct tc_fifo_qopt, which is no attribute.
  return fifo && new Writer(4).u32(fifo.limitBytes).finish();
}

function encodeKey({ ifindex, handle, parent = QdiscParent.root }: TrafficHeader): Uint8Array {
  const writer = new Writer(trafficHeaderBytes);
  writeTrafficHeader(writer, { ifindex, handle, parent });
  return writer.finish();
}

const maxU32 = 0xffffffffn;

function encodeTokenBucket({ bytesPerSecond, burstBytes, limitBytes }: TokenBucket): Uint8Array {
  if (bytesPerSecond <= 0n)
    throw new RangeError(`Cannot limit to ${bytesPerSecond} bytes per second: must be above 0`);
  return tokenBucket.encode({
    parameters: {
      rate: Number(bytesPerSecond < maxU32 ? bytesPerSecond : maxU32),
      peakRate: 0,
      limit: limitBytes,
      bufferTicks: ticksFor(burstBytes, bytesPerSecond),
      mtuTicks: 0,
    },
    rate64: bytesPerSecond > maxU32 ? bytesPerSecond : undefined,
    burstBytes,
  });
}

function decodeTokenBucket(options: Uint8Array): TokenBucket | undefined {
  const { parameters, rate64 } = tokenBucket.decode(options);
  if (!parameters) return undefined;
  const bytesPerSecond = rate64 ?? BigInt(parameters.rate);
  const burstBytes = bytesIn(parameters.bufferTicks, bytesPerSecond);
  return { bytesPerSecond, burstBytes, limitBytes: parameters.limit };
}
