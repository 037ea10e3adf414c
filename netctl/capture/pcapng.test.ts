import { execFileSync } from "node:child_process";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PcapngMerge } from "./merge.ts";
import { type CapturedPacket, PcapReader } from "./pcap-reader.ts";

/** A pcap file as tcpdump would write it. */
function pcap(packets: readonly CapturedPacket[], { nanoseconds = true, bigEndian = false } = {}): Buffer {
  const u32 = (value: number) => {
    const bytes = Buffer.alloc(4);
    if (bigEndian) bytes.writeUInt32BE(value);
    else bytes.writeUInt32LE(value);
    return bytes;
  };
  const unit = nanoseconds ? 1n : 1000n;
  return Buffer.concat([
    u32(nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4),
    ...[bigEndian ? 0x00020004 : 0x00040002, 0, 0, 65_535, 1].map(u32),
    ...packets.flatMap(({ timeNs, originalBytes, bytes }) => [
      u32(Number(timeNs / 1_000_000_000n)),
      u32(Number((timeNs % 1_000_000_000n) / unit)),
      u32(bytes.length),
      u32(originalBytes),
      bytes,
    ]),
  ]);
}

const packets = fc.array(
  fc.record({
    second: fc.nat(2 ** 31),
    micro: fc.nat(999_999),
    bytes: fc.uint8Array({ maxLength: 200 }),
    more: fc.nat(9),
  }),
  { maxLength: 8 },
);

describe("PcapReader", () => {
  test("reads what was written, however it is cut", () => {
    fc.assert(
      fc.property(
        packets,
        fc.boolean(),
        fc.boolean(),
        fc.integer({ min: 1, max: 70 }),
        (made, nanoseconds, bigEndian, cut) => {
          const wanted = made.map(({ second, micro, bytes, more }) => ({
            timeNs: BigInt(second) * 1_000_000_000n + BigInt(micro) * 1000n,
            originalBytes: bytes.length + more,
            bytes: Buffer.from(bytes),
          }));
          const file = pcap(wanted, { nanoseconds, bigEndian });
          const reader = new PcapReader();
          const found: CapturedPacket[] = [];
          for (let at = 0; at < file.length; at += cut)
            found.push(...reader.push(file.subarray(at, at + cut)));
          expect(found.map((each) => ({ ...each, bytes: Buffer.from(each.bytes) }))).toEqual(wanted);
          expect(reader.header).toMatchObject({ linkType: 1, snapLength: 65_535 });
        },
      ),
    );
  });

  test("refuses anything else", () => {
    expect(() => new PcapReader().push(Buffer.alloc(24, 7))).toThrow("it begins with 0x7070707");
    const huge = pcap([{ timeNs: 0n, originalBytes: 1, bytes: Buffer.alloc(1) }]);
    huge.writeUInt32LE(70_000, 24 + 8);
    expect(() => new PcapReader().push(huge)).toThrow("a packet of 70000 bytes");
  });
});

test("PcapngMerge puts the packets of several points in order, and tcpdump reads the file", () => {
  const written: Buffer[] = [];
  const merge = new PcapngMerge((bytes) => written.push(bytes), { application: "test", holdMs: 100 });
  const header = { description: "", linkType: 1, snapLength: 65_535 };
  merge.describe(1, { ...header, name: "bob eth0" });
  merge.describe(0, { ...header, name: "alice eth0" });
  const at = (ms: number, last: number) => ({
    timeNs: 1_700_000_000_000_000_000n + BigInt(ms) * 1_000_000n,
    originalBytes: 15,
    // An Ethernet header, and one byte to know it by.
    bytes: Buffer.from([...Array<number>(12).fill(2), 0x88, 0xb5, last]),
  });
  merge.add(0, [at(50, 2), at(300, 4)]);
  merge.add(1, [at(10, 1), at(60, 3)]);
  const before = written.length;
  merge.flush(1_700_000_000_000_000_000n + 200_000_000n);
  expect(written.length).toBe(before + 1);
  merge.flush();
  const printed = execFileSync("tcpdump", ["-r", "-", "-n", "-x", "-tt"], {
    input: Buffer.concat(written),
    encoding: "utf8",
    stdio: ["pipe", "pipe", "ignore"],
  });
  expect(printed.match(/^\d+\.\d+/gm)).toEqual(
    [10, 50, 60, 300].map((ms) => `1700000000.${String(ms).padStart(3, "0")}000`),
  );
});
