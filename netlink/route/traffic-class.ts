import { attributeTable } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { bytes, type Codec, expectAtLeast, text, u64 } from "#netlink/codec.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { creationFlags, RouteMessage } from "./constant.ts";
import { bytesIn, ticksFor, trafficHeaderBytes, writeTrafficHeader } from "./traffic-header.ts";

/** One class of a hierarchical token bucket, whose ceiling is its rate. */
export interface TrafficClass {
  readonly ifindex: number;
  /** Major number of the qdisc << 16 | minor number. */
  readonly classId: number;
  readonly bytesPerSecond: bigint;
  readonly burstBytes: number;
}

interface Parameters {
  /** Saturated at 2^32 - 1, then `rate64` counts. */
  readonly rate: number;
  readonly bufferTicks: number;
}

/** TC_LINKLAYER_ETHERNET: the kernel counts frames, and wants no table of rates. */
const ethernetLayer = 1;
/** Bytes that the only class of its level may send before the next one's turn. */
const quantum = 60_000;

/** struct tc_htb_opt: two struct tc_ratespec, rate and ceiling, then buffer, cbuffer, quantum, level, prio */
const parameters: Codec<Parameters> = {
  write(into, { rate, bufferTicks }) {
    for (let each = 0; each < 2; each++) into.u8(0).u8(ethernetLayer).zeros(6).u32(rate);
    into.u32(bufferTicks).u32(bufferTicks).u32(quantum).zeros(8);
  },
  read(payload) {
    expectAtLeast(payload, 44);
    const view = viewOf(payload);
    return { rate: view.getUint32(8, hostLittleEndian), bufferTicks: view.getUint32(24, hostLittleEndian) };
  },
};

/** TCA_HTB_* */
const options = attributeTable({ parameters: [1, parameters], rate64: [6, u64], ceiling64: [7, u64] });

/** TCA_* */
const attributes = attributeTable({ kind: [1, text], options: [2, { ...bytes, nested: true }] });

const maxU32 = 0xffffffffn;

/** `tc class add|replace dev … parent MAJOR: classid MAJOR:MINOR htb rate … burst …` */
export function newTrafficClass(given: TrafficClass): Request {
  const { ifindex, classId, bytesPerSecond, burstBytes } = given;
  const isLarge = bytesPerSecond > maxU32;
  const writer = new Writer(128);
  writeTrafficHeader(writer, { ifindex, handle: classId, parent: (classId & 0xffff0000) >>> 0 });
  attributes.write(writer, {
    kind: "htb",
    options: options.encode({
      parameters: {
        rate: Number(isLarge ? maxU32 : bytesPerSecond),
        bufferTicks: ticksFor(burstBytes, bytesPerSecond),
      },
      rate64: isLarge ? bytesPerSecond : undefined,
      ceiling64: isLarge ? bytesPerSecond : undefined,
    }),
  });
  return {
    op: `add htb class to link ${ifindex}`,
    type: RouteMessage.NewTrafficClass,
    flags: creationFlags("replace"),
    body: writer.finish(),
  };
}

/** For `dump`: `tc class show dev …` */
export function getTrafficClasses(ifindex: number): Request {
  const writer = new Writer(trafficHeaderBytes);
  writeTrafficHeader(writer, { ifindex });
  return {
    op: `read classes of link ${ifindex}`,
    type: RouteMessage.GetTrafficClass,
    flags: 0,
    body: writer.finish(),
  };
}

/** Reads RTM_NEWTCLASS; undefined for a class of another kind. @throws {DecodeError} */
export function decodeTrafficClass({ body }: Message): TrafficClass | undefined {
  expectAtLeast(body, trafficHeaderBytes);
  const view = viewOf(body);
  const { kind, options: data } = attributes.decode(body.subarray(trafficHeaderBytes));
  const { parameters: found, rate64 } = kind === "htb" && data ? options.decode(data) : {};
  if (!found) return undefined;
  const bytesPerSecond = rate64 ?? BigInt(found.rate);
  return {
    ifindex: view.getInt32(4, hostLittleEndian),
    classId: view.getUint32(8, hostLittleEndian),
    bytesPerSecond,
    burstBytes: bytesIn(found.bufferTicks, bytesPerSecond),
  };
}
