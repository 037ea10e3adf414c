import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  bodyBytes,
  decodeHeader,
  decodeOutcome,
  decodeRequest,
  encodeOutcome,
  encodeRequest,
  headerBytes,
  isSameLocality,
  maxReplyBytes,
  maxStdinBytes,
  ProtocolError,
  type Request,
} from "./protocol.ts";

const u32 = fc.nat(0xffff_ffff);
const u64 = fc.bigInt(0n, 2n ** 64n - 1n);
const text = fc.string({ unit: "grapheme" }).filter((each) => !each.includes("\0"));
const variableName = text.filter((each) => each !== "" && !each.includes("="));

const requests: fc.Arbitrary<Request> = fc.record({
  name: fc.string({ maxLength: 16 }),
  environment: fc.dictionary(variableName, text),
  stdin: fc.string({ unit: "grapheme" }),
  locality: fc.record({ network: u64, mount: u64, rootInode: u64, rootDevice: u32 }),
  timeoutMs: u32,
});

function decode(bytes: Buffer): Request {
  return decodeRequest(decodeHeader(bytes), bytes.subarray(headerBytes));
}

const request: Request = {
  name: "bridge",
  environment: { CNI_COMMAND: "ADD" },
  stdin: "{}",
  locality: { network: 4026531840n, mount: 4026531841n, rootInode: 2n, rootDevice: 0x801 },
  timeoutMs: 60_000,
};

describe("a request", () => {
  it("is read as it was written", () => {
    fc.assert(
      fc.property(requests, (each) => {
        const bytes = encodeRequest(each);
        expect(bytes.length).toBe(headerBytes + bodyBytes(decodeHeader(bytes)));
        const { json: _, ...read } = decode(bytes);
        expect({ ...read, environment: { ...read.environment } }).toEqual(each);
      }),
    );
  });

  it("is laid out as native/launcher.c lays it out", () => {
    const bytes = encodeRequest(request);
    expect(bytes.toString("latin1", 0, 4)).toBe("NCT2");
    expect([4, 8, 12].map((offset) => bytes.readUInt32LE(offset))).toEqual([6, 16, 2]);
    expect([16, 24, 32].map((offset) => bytes.readBigUInt64LE(offset))).toEqual([
      4026531840n,
      4026531841n,
      2n,
    ]);
    expect([40, 44].map((offset) => bytes.readUInt32LE(offset))).toEqual([0x801, 60_000]);
    expect(bytes.toString("latin1", 48)).toBe("bridgeCNI_COMMAND=ADD\0{}");
  });

  it("takes the first of two variables with one name, as getenv(3) does, and any name", () => {
    const body = Buffer.from("X=1\0X=2\0__proto__=p\0novalue\0=\0");
    const header = { ...decodeHeader(encodeRequest(request)), nameBytes: 0, stdinBytes: 0 };
    const { environment } = decodeRequest({ ...header, environmentBytes: body.length }, body);
    expect(Object.entries(environment)).toEqual([
      ["X", "1"],
      ["__proto__", "p"],
    ]);
  });

  it.each([
    [0, "NCT1", 'begins with "NCT1", not "NCT2"'],
    [4, 65, "a name of 65 bytes"],
    [8, 256 * 1024 + 1, "an environment of 262145 bytes"],
    [12, maxStdinBytes + 1, "4194305 bytes of stdin"],
    [12, 0xffff_ffff, "4294967295 bytes of stdin"],
  ])("is refused beyond the limits: %i, %s", (offset, value, message) => {
    const bytes = encodeRequest(request);
    if (typeof value === "string") bytes.write(value, offset, "latin1");
    else bytes.writeUInt32LE(value, offset);
    expect(() => decodeHeader(bytes)).toThrow(ProtocolError);
    expect(() => decodeHeader(bytes)).toThrow(message);
  });
});

describe("an answer", () => {
  const outcomes = fc.record({ exitCode: fc.nat(255), stdout: text, stderr: text });

  it("is read as it was written, and not before all of it is there", () => {
    fc.assert(
      fc.property(outcomes, (outcome) => {
        const bytes = encodeOutcome(outcome);
        for (let size = 0; size < bytes.length; size++) {
          expect(decodeOutcome(bytes.subarray(0, size))).toBeUndefined();
        }
        expect(decodeOutcome(bytes)).toEqual(outcome);
      }),
      { numRuns: 50 },
    );
  });

  it("that is too long loses the end of stderr, or is no answer", () => {
    const long = "x".repeat(maxReplyBytes);
    const outcome = decodeOutcome(encodeOutcome({ exitCode: 1, stdout: "{}", stderr: long }));
    expect(outcome).toMatchObject({ exitCode: 1, stdout: "{}" });
    expect(outcome?.stderr).toHaveLength(maxReplyBytes - 2);
    expect(() => encodeOutcome({ exitCode: 0, stdout: `${long}x`, stderr: "" })).toThrow(ProtocolError);
    const announced = Buffer.alloc(12, 0xff);
    expect(() => decodeOutcome(announced)).toThrow(ProtocolError);
  });
});

it("two processes are in one place if all that decides what a path means is the same", () => {
  const { locality } = request;
  expect(isSameLocality(locality, { ...locality })).toBe(true);
  const others = [{ network: 1n }, { mount: 1n }, { rootInode: 1n }, { rootDevice: 1 }];
  for (const other of others) expect(isSameLocality(locality, { ...locality, ...other })).toBe(false);
});
