import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { encodeRequest, ProtocolError, type Request } from "./protocol.ts";
import { RequestReader } from "./request-reader.ts";

const request: Request = {
  name: "bridge",
  environment: { CNI_COMMAND: "ADD", CNI_CONTAINERID: "c1" },
  stdin: JSON.stringify({ cniVersion: "1.1.0", name: "net1" }),
  locality: { network: 1n, mount: 2n, rootInode: 3n, rootDevice: 4 },
  timeoutMs: 1000,
};
const whole = encodeRequest(request);

/** What each piece gave. */
function read(bytes: Buffer, cuts: readonly number[]): readonly (Request | undefined)[] {
  const reader = new RequestReader();
  const ends = [...new Set([...cuts.filter((cut) => cut > 0 && cut < bytes.length), bytes.length])].sort(
    (a, b) => a - b,
  );
  return ends.map((end, index) => reader.push(bytes.subarray(ends[index - 1] ?? 0, end)));
}

describe("RequestReader", () => {
  it("reads a request however it is cut into pieces", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(whole.length)), (cuts) => {
        const answers = read(whole, cuts);
        expect(answers.at(-1)).toEqual(expect.objectContaining({ name: "bridge", stdin: request.stdin }));
        expect(answers.slice(0, -1).every((answer) => answer === undefined)).toBe(true);
      }),
    );
  });

  it("reads it byte by byte, and nothing of one that is cut off", () => {
    for (let size = 1; size < whole.length; size++) {
      const every = Array.from({ length: size }, (_, index) => index);
      expect(read(whole.subarray(0, size), every).every((answer) => answer === undefined)).toBe(true);
    }
  });

  it("refuses what follows a request, in whichever piece", () => {
    const longer = Buffer.concat([whole, Buffer.from("x")]);
    fc.assert(
      fc.property(fc.array(fc.nat(whole.length - 1)), (cuts) => {
        expect(() => read(longer, cuts)).toThrow(ProtocolError);
      }),
    );
  });

  it("never gives a request for bytes that are none, and throws nothing but that", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(200)), (noise, cuts) => {
        try {
          expect(read(Buffer.from(noise), cuts).every((answer) => answer === undefined)).toBe(true);
        } catch (error) {
          if (!(error instanceof ProtocolError)) throw error;
        }
      }),
    );
  });
});
