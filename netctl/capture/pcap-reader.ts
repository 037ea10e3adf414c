/**
 * Reads what `tcpdump -w -` prints: draft-ietf-opsawg-pcap, the classic format with microseconds or nanoseconds, in the
 * byte order of the machine that wrote it. Takes it in pieces of any length.
 */
export class PcapReader {
  #rest: Buffer = Buffer.alloc(0);
  #header: PcapHeader | undefined;

  /** Known as soon as the first 24 bytes are there. */
  get header(): PcapHeader | undefined {
    return this.#header;
  }

  /** @returns the packets that are whole now @throws {Error} for anything else than pcap */
  push(piece: Buffer): readonly CapturedPacket[] {
    let rest = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    if (this.#header === undefined) {
      if (rest.length < headerBytes) {
        this.#rest = rest;
        return [];
      }
      this.#header = readHeader(rest);
      rest = rest.subarray(headerBytes);
    }
    const { isLittleEndian, unitsPerSecond, maxBytes } = this.#header;
    const u32 = (at: number) => (isLittleEndian ? rest.readUInt32LE(at) : rest.readUInt32BE(at));
    const packets: CapturedPacket[] = [];
    while (rest.length >= recordHeaderBytes) {
      const length = u32(8);
      if (length > maxBytes) throw new Error(`Cannot read the capture: a packet of ${length} bytes`);
      if (rest.length < recordHeaderBytes + length) break;
      packets.push({
        timeNs: BigInt(u32(0)) * 1_000_000_000n + (BigInt(u32(4)) * 1_000_000_000n) / unitsPerSecond,
        originalBytes: u32(12),
        bytes: rest.subarray(recordHeaderBytes, recordHeaderBytes + length),
      });
      rest = rest.subarray(recordHeaderBytes + length);
    }
    this.#rest = rest;
    return packets;
  }
}

export interface CapturedPacket {
  /** Since 1970. */
  readonly timeNs: bigint;
  /** On the wire; `bytes` may be less. */
  readonly originalBytes: number;
  readonly bytes: Uint8Array;
}

export interface PcapHeader {
  readonly isLittleEndian: boolean;
  readonly unitsPerSecond: bigint;
  /** LINKTYPE_*: 1 is Ethernet */
  readonly linkType: number;
  /** What is captured of a packet at most. */
  readonly snapLength: number;
  readonly maxBytes: number;
}

const headerBytes = 24;
const recordHeaderBytes = 16;
const magics = { microseconds: 0xa1b2c3d4, nanoseconds: 0xa1b23c4d };

function readHeader(bytes: Buffer): PcapHeader {
  const isLittleEndian = [magics.microseconds, magics.nanoseconds].includes(bytes.readUInt32LE(0));
  const u32 = (at: number) => (isLittleEndian ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
  const magic = u32(0);
  if (magic !== magics.microseconds && magic !== magics.nanoseconds)
    throw new Error(`Cannot read the capture: it begins with 0x${magic.toString(16)}`);
  const snapLength = u32(16);
  return {
    isLittleEndian,
    unitsPerSecond: magic === magics.nanoseconds ? 1_000_000_000n : 1_000_000n,
    snapLength,
    // The upper bits say how long the frame check sequence is.
    linkType: u32(20) & 0xffff,
    maxBytes: snapLength === 0 ? 262_144 : snapLength,
  };
}
