import { attributeTable } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { bytes, type Codec, expectAtLeast, text, u8, u32, u64 } from "#netlink/codec.ts";
import { type Message, MessageFlag, type Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { creationFlags, RouteMessage } from "./constant.ts";

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

const headerBytes = 20;

/** Token bucket filter: lets `bytesPerSecond` through, after a burst. */
export interface TokenBucket {
  readonly bytesPerSecond: bigint;
  /** What may pass at once; at least one packet of the link's MTU */
  readonly burstBytes: number;
  /** What may wait for tokens; more is dropped */
  readonly limitBytes: number;
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
}

/** `tc qdisc add|replace dev … root|ingress KIND …` */
export function newQdisc(qdisc: NewQdisc): Request {
  const { kind } = qdisc;
  const isIngress = kind === "ingress" || kind === "clsact";
  const writer = new Writer(128);
  writeHeader(writer, {
    ifindex: qdisc.ifindex,
    parent: qdisc.parent ?? (isIngress ? QdiscParent.ingress : QdiscParent.root),
    handle: qdisc.handle ?? (isIngress ? ingressHandle : 0),
  });
  attributes.write(writer, { kind, options: qdisc.tokenBucket && encodeTokenBucket(qdisc.tokenBucket) });
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
  expectAtLeast(body, headerBytes);
  const view = viewOf(body);
  const { kind = "", options } = attributes.decode(body.subarray(headerBytes));
  return {
    ifindex: view.getInt32(4, hostLittleEndian),
    handle: view.getUint32(8, hostLittleEndian),
    parent: view.getUint32(12, hostLittleEndian),
    kind,
    tokenBucket: kind === "tbf" && options ? decodeTokenBucket(options) : undefined,
  };
}

function encodeKey(key: QdiscKey): Uint8Array {
  const writer = new Writer(headerBytes);
  writeHeader(writer, key);
  return writer.finish();
}

function writeHeader(into: Writer, key: QdiscKey): void {
  into.zeros(4).i32(key.ifindex);
  into
    .u32(key.handle ?? 0)
    .u32(key.parent ?? QdiscParent.root)
    .u32(0);
}

const nanosecondsPerTick = 64n;
const second = 1_000_000_000n;
const maxU32 = 0xffffffffn;

function encodeTokenBucket({ bytesPerSecond, burstBytes, limitBytes }: TokenBucket): Uint8Array {
  if (bytesPerSecond <= 0n)
    throw new RangeError(`Cannot limit to ${bytesPerSecond} bytes per second: must be above 0`);
  const ticks = (BigInt(burstBytes) * second) / bytesPerSecond / nanosecondsPerTick;
  return tokenBucket.encode({
    parameters: {
      rate: Number(bytesPerSecond < maxU32 ? bytesPerSecond : maxU32),
      peakRate: 0,
      limit: limitBytes,
      bufferTicks: Number(ticks < maxU32 ? ticks : maxU32),
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
  const burst = (BigInt(parameters.bufferTicks) * nanosecondsPerTick * bytesPerSecond) / second;
  return { bytesPerSecond, burstBytes: Number(burst), limitBytes: parameters.limit };
}
