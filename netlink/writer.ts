import { hostLittleEndian } from "./byte-order.ts";

/** NLA_F_NESTED: the payload is attributes itself. The kernel's strict checks ask for it. */
export const nestedFlag = 0x8000;
/** nla_len counts the header and is a u16. */
const maxAttributeBytes = 0xffff;

/** A buffer that grows, with netlink's integers and attributes. Integers out of range throw a RangeError. */
export class Writer {
  #bytes: Uint8Array;
  #view: DataView;
  #length = 0;

  constructor(expectedBytes = 256) {
    this.#bytes = new Uint8Array(expectedBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get length(): number {
    return this.#length;
  }

  /** What was written so far; a view, valid until the next write. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  u8(value: number): this {
    if ((value & 0xff) !== value) throw outOfRange(value, 1, 0, 0xff);
    const at = this.#grow(1);
    this.#bytes[at] = value;
    return this;
  }
  i8(value: number): this {
    return this.#integer(value, 1, -0x80, 0x7f, true);
  }
  u16(value: number): this {
    if ((value & 0xffff) !== value) throw outOfRange(value, 2, 0, 0xffff);
    const at = this.#grow(2);
    this.#view.setUint16(at, value, hostLittleEndian);
    return this;
  }
  u32(value: number): this {
    if (value >>> 0 !== value) throw outOfRange(value, 4, 0, 0xffffffff);
    const at = this.#grow(4);
    this.#view.setUint32(at, value, hostLittleEndian);
    return this;
  }
  i32(value: number): this {
    if ((value | 0) !== value) throw outOfRange(value, 4, -0x80000000, 0x7fffffff);
    const at = this.#grow(4);
    this.#view.setInt32(at, value, hostLittleEndian);
    return this;
  }
  u16be(value: number): this {
    return this.#integer(value, 2, 0, 0xffff, false);
  }
  u32be(value: number): this {
    return this.#integer(value, 4, 0, 0xffffffff, false);
  }
  u64(value: bigint): this {
    return this.#long(value, hostLittleEndian);
  }
  u64be(value: bigint): this {
    return this.#long(value, false);
  }

  bytes(data: Uint8Array): this {
    const at = this.#grow(data.length);
    this.#bytes.set(data, at);
    return this;
  }

  zeros(count: number): this {
    const at = this.#grow(count);
    this.#bytes.fill(0, at, at + count);
    return this;
  }

  /** Pads with zeros to a multiple of four, NLA_ALIGNTO and NLMSG_ALIGNTO. */
  align(): this {
    const missing = -this.#length & 3;
    return missing === 0 ? this : this.zeros(missing);
  }

  /** Overwrites a u32 that was written before: for lengths known afterwards. */
  patchU32(at: number, value: number): void {
    this.#view.setUint32(at, value, hostLittleEndian);
  }

  /** One attribute: header, what `payload` writes, padding. */
  attribute(type: number, payload: (writer: this) => void, nested = false): this {
    const start = this.beginAttribute(nested ? type | nestedFlag : type);
    payload(this);
    return this.endAttribute(start);
  }

  /** The same in two steps. @returns what `endAttribute` wants to know */
  beginAttribute(type: number): number {
    const start = this.#length;
    this.u16(0).u16(type);
    return start;
  }

  endAttribute(start: number): this {
    const length = this.#length - start;
    if (length > maxAttributeBytes) {
      const type = this.#view.getUint16(start + 2, hostLittleEndian) & ~nestedFlag;
      throw new RangeError(
        `Cannot encode netlink attribute ${type}: ${length} bytes exceed ${maxAttributeBytes}`,
      );
    }
    this.#view.setUint16(start, length, hostLittleEndian);
    return this.align();
  }

  #integer(value: number, size: 1 | 2 | 4, min: number, max: number, little: boolean): this {
    if (!Number.isInteger(value) || value < min || value > max) throw outOfRange(value, size, min, max);
    const at = this.#grow(size);
    if (size === 1) this.#view.setUint8(at, value & 0xff);
    else if (size === 2) this.#view.setUint16(at, value & 0xffff, little);
    else this.#view.setUint32(at, value >>> 0, little);
    return this;
  }

  #long(value: bigint, little: boolean): this {
    if (BigInt.asUintN(64, value) !== value) throw new RangeError(`Cannot encode ${value} in 8 bytes`);
    const at = this.#grow(8);
    this.#view.setBigUint64(at, value, little);
    return this;
  }

  /** Makes room; returns where it is. */
  #grow(count: number): number {
    const at = this.#length;
    const needed = at + count;
    if (needed > this.#bytes.length) {
      const bigger = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      bigger.set(this.finish());
      this.#bytes = bigger;
      this.#view = new DataView(bigger.buffer);
    }
    this.#length = needed;
    return at;
  }
}

function outOfRange(value: number, size: number, min: number, max: number): RangeError {
  return new RangeError(
    `Cannot encode ${value} in ${size} bytes: it must be an integer from ${min} to ${max}`,
  );
}
