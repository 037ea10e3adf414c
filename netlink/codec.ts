import { type IpAddress, ipFromBytes, ipToBytes } from "#net/ip.ts";
import { type MacAddress, macFromBytes, macToBytes } from "#net/mac.ts";
import { hostLittleEndian, readI32, readU16, readU32, viewOf } from "./byte-order.ts";
import { DecodeError } from "./decode-error.ts";
import type { Writer } from "./writer.ts";

/**
 * How one attribute's payload is written and read. `read` throws DecodeError and nothing else; `write` throws
 * RangeError for what does not fit. `read(write(x))` equals x.
 */
export interface Codec<T> {
  write(into: Writer, value: T): void;
  read(payload: Uint8Array): T;
  /** The payload is attributes itself, so NLA_F_NESTED is set. */
  readonly nested?: boolean;
}

/** @throws {DecodeError} */
export function expectLength(payload: Uint8Array, length: number): void {
  if (payload.length !== length) throw new DecodeError(`${payload.length} bytes instead of ${length}`);
}

/** For structs, which newer kernels may have made longer. @throws {DecodeError} */
export function expectAtLeast(payload: Uint8Array, length: number): void {
  if (payload.length < length) throw new DecodeError(`${payload.length} bytes instead of at least ${length}`);
}

function fixed<T>(
  length: number,
  write: (into: Writer, value: T) => void,
  get: (payload: Uint8Array) => T,
): Codec<T> {
  return {
    write,
    read(payload) {
      if (payload.length !== length) expectLength(payload, length);
      return get(payload);
    },
  };
}

export const u8 = fixed<number>(
  1,
  (into, value) => into.u8(value),
  (payload) => payload[0] ?? 0,
);
export const i8 = fixed<number>(
  1,
  (into, value) => into.i8(value),
  (payload) => ((payload[0] ?? 0) << 24) >> 24,
);
export const u16 = fixed<number>(
  2,
  (into, value) => into.u16(value),
  (payload) => readU16(payload),
);
export const u32 = fixed<number>(
  4,
  (into, value) => into.u32(value),
  (payload) => readU32(payload),
);
export const i32 = fixed<number>(
  4,
  (into, value) => into.i32(value),
  (payload) => readI32(payload),
);
export const u64 = fixed<bigint>(
  8,
  (into, value) => into.u64(value),
  (payload) => viewOf(payload).getBigUint64(0, hostLittleEndian),
);
/** Network byte order */
export const u16be = fixed<number>(
  2,
  (into, value) => into.u16be(value),
  (payload) => viewOf(payload).getUint16(0),
);
/** Network byte order */
export const u32be = fixed<number>(
  4,
  (into, value) => into.u32be(value),
  (payload) => viewOf(payload).getUint32(0),
);
/** Network byte order */
export const u64be = fixed<bigint>(
  8,
  (into, value) => into.u64be(value),
  (payload) => viewOf(payload).getBigUint64(0),
);
/** A u8 that says yes or no. */
export const bool = fixed<boolean>(
  1,
  (into, value) => into.u8(value ? 1 : 0),
  (payload) => payload[0] !== 0,
);

/** An attribute without payload, whose presence says yes. Writing false is not possible: leave it out. */
export const flag: Codec<true> = {
  write() {},
  read() {
    return true;
  },
};

/** NUL-terminated UTF-8. Reading tolerates a missing NUL and replaces what is not UTF-8. */
export const text: Codec<string> = {
  write(into, value) {
    if (value.includes("\0"))
      throw new RangeError(`Cannot encode ${JSON.stringify(value)}: it contains a NUL`);
    into.bytes(Buffer.from(value)).u8(0);
  },
  read(payload) {
    const end = payload.indexOf(0);
    return Buffer.from(payload.buffer, payload.byteOffset, end < 0 ? payload.length : end).toString();
  },
};

/** As they are; a view of the message. */
export const bytes: Codec<Uint8Array> = {
  write(into, value) {
    into.bytes(value);
  },
  read(payload) {
    return payload;
  },
};

/** 4 bytes are IPv4, 16 are IPv6. */
export const ip: Codec<IpAddress> = {
  write(into, value) {
    into.bytes(ipToBytes(value));
  },
  read(payload) {
    if (payload.length !== 4 && payload.length !== 16)
      throw new DecodeError(`${payload.length} bytes instead of 4 or 16`);
    return ipFromBytes(payload);
  },
};

export const mac: Codec<MacAddress> = {
  write(into, value) {
    into.bytes(macToBytes(value));
  },
  read(payload) {
    expectLength(payload, 6);
    return macFromBytes(payload);
  },
};

/** A MAC address where it has six bytes; the bytes where it has not, as those of tunnels and InfiniBand. */
export const hardwareAddress: Codec<MacAddress | Uint8Array> = {
  write(into, value) {
    into.bytes(typeof value === "string" ? macToBytes(value) : value);
  },
  read(payload) {
    return payload.length === 6 ? macFromBytes(payload) : payload;
  },
};
