import type { Writer } from "#netlink/writer.ts";

/** struct tcmsg, with which all messages about qdiscs, classes and filters begin: include/uapi/linux/rtnetlink.h */
export interface TrafficHeader {
  readonly ifindex: number;
  /** Of the object itself. */
  readonly handle?: number | undefined;
  /** QdiscParent, a qdisc or a class. */
  readonly parent?: number | undefined;
  /** Of a filter: its priority and protocol. */
  readonly info?: number | undefined;
}

export const trafficHeaderBytes = 20;

export function writeTrafficHeader(into: Writer, header: TrafficHeader): void {
  into.zeros(4).i32(header.ifindex);
  into
    .u32(header.handle ?? 0)
    .u32(header.parent ?? 0)
    .u32(header.info ?? 0);
}

/** The kernel counts bursts as the time that they take, in ticks of 64 ns (PSCHED_SHIFT). */
const nanosecondsPerTick = 64n;
const second = 1_000_000_000n;
const maxTicks = 0xffffffffn;

/** At most 274 seconds: a burst that takes longer is cut to that. */
export function ticksFor(bytes: number, bytesPerSecond: bigint): number {
  const ticks = (BigInt(bytes) * second) / bytesPerSecond / nanosecondsPerTick;
  return Number(ticks < maxTicks ? ticks : maxTicks);
}

export function bytesIn(ticks: number, bytesPerSecond: bigint): number {
  return Number((BigInt(ticks) * nanosecondsPerTick * bytesPerSecond) / second);
}
