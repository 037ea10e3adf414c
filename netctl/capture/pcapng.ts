import type { CapturedPacket } from "./pcap-reader.ts";

/** One place where packets are seen, as Wireshark lists it. */
export interface CaptureInterface {
  readonly name: string;
  readonly description: string;
  readonly linkType: number;
  readonly snapLength: number;
}

/**
 * Blocks of a pcapng file: draft-ietf-opsawg-pcapng, section 4. Each begins and ends with its own length, so that files
 * which are cut off anywhere can be read up to there.
 */
export function sectionHeader(application: string): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(byteOrderMagic, 0);
  body.writeUInt16LE(1, 4);
  body.writeUInt16LE(0, 6);
  // The section's length is not known.
  body.writeBigInt64LE(-1n, 8);
  return block(blockType.section, [body, ...options([[sectionOption.application, text(application)]])]);
}

/** Packets refer to interfaces by their order in the file. */
export function interfaceDescription(place: CaptureInterface): Buffer {
  const body = Buffer.alloc(8);
  body.writeUInt16LE(place.linkType, 0);
  body.writeUInt32LE(place.snapLength, 4);
  return block(blockType.interface, [
    body,
    ...options([
      [interfaceOption.name, text(place.name)],
      [interfaceOption.description, text(place.description)],
      [interfaceOption.resolution, Buffer.from([nanoseconds])],
    ]),
  ]);
}

/** @param place number of its interface, from 0 */
export function packetBlock(place: number, { timeNs, originalBytes, bytes }: CapturedPacket): Buffer {
  const body = Buffer.alloc(20);
  body.writeUInt32LE(place, 0);
  body.writeUInt32LE(Number(timeNs >> 32n), 4);
  body.writeUInt32LE(Number(timeNs & 0xffff_ffffn), 8);
  body.writeUInt32LE(bytes.length, 12);
  body.writeUInt32LE(originalBytes, 16);
  return block(blockType.packet, [body, padded(bytes)]);
}

const byteOrderMagic = 0x1a2b3c4d;
const blockType = { section: 0x0a0d0d0a, interface: 1, packet: 6 };
const sectionOption = { application: 4 };
const interfaceOption = { name: 2, description: 3, resolution: 9 };
/** Units of 10^-9 s */
const nanoseconds = 9;

function options(values: readonly (readonly [code: number, value: Uint8Array])[]): readonly Uint8Array[] {
  const end = Buffer.alloc(4);
  return [
    ...values.flatMap(([code, value]) => {
      const header = Buffer.alloc(4);
      header.writeUInt16LE(code, 0);
      header.writeUInt16LE(value.length, 2);
      return [header, padded(value)];
    }),
    end,
  ];
}

function block(type: number, parts: readonly Uint8Array[]): Buffer {
  const length = 12 + parts.reduce((sum, part) => sum + part.length, 0);
  const head = Buffer.alloc(8);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(length, 4);
  const tail = Buffer.alloc(4);
  tail.writeUInt32LE(length, 0);
  return Buffer.concat([head, ...parts, tail]);
}

/** To a multiple of four bytes. */
function padded(bytes: Uint8Array): Uint8Array {
  const missing = (4 - (bytes.length % 4)) % 4;
  return missing === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(missing)]);
}

const text = (value: string) => Buffer.from(value, "utf8");
