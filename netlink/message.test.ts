import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readCapture, readCapturedMessage } from "#testing/capture.ts";
import { DecodeError } from "./decode-error.ts";
import { decodeVerdict, encodeRequests, messagesIn } from "./message.ts";

const request = (byte: number, length: number) => ({
  op: "test",
  type: 16 + byte,
  flags: 0x600,
  body: new Uint8Array(length).fill(byte),
});

test("encodeRequests() puts requests behind each other, aligned and numbered", () => {
  const data = encodeRequests([request(1, 5), { ...request(2, 4), acknowledge: false }], 100, 77);
  const first = ["15000000", "1100", "0506", "64000000", "4d000000", "0101010101000000"];
  const second = ["14000000", "1200", "0106", "65000000", "4d000000", "02020202"];
  expect(Buffer.from(data).toString("hex")).toBe([...first, ...second].join(""));
  expect([...messagesIn(data)]).toEqual([
    { type: 17, flags: 0x605, sequence: 100, port: 77, body: new Uint8Array(5).fill(1) },
    { type: 18, flags: 0x601, sequence: 101, port: 77, body: new Uint8Array(4).fill(2) },
  ]);
});

describe("messagesIn()", () => {
  test("throws DecodeError at every cut but between messages", () => {
    const data = encodeRequests([request(1, 4), request(2, 8), request(3, 0)], 1, 0);
    const ends = [0, 20, 44, 60];
    for (let length = 0; length <= data.length; length++) {
      const read = () => [...messagesIn(data.subarray(0, length))];
      if (ends.includes(length)) expect(read()).toHaveLength(ends.indexOf(length));
      else expect(read, `${length} bytes`).toThrow(DecodeError);
    }
  });

  test("reads any bytes, or throws DecodeError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (data) => {
        try {
          for (const message of messagesIn(data)) decodeVerdict(message);
        } catch (error) {
          expect(error).toBeInstanceOf(DecodeError);
        }
      }),
    );
  });
});

describe("decodeVerdict()", () => {
  test("reads the kernel's text and offset", () => {
    expect(decodeVerdict(readCapturedMessage("error-with-text"))).toEqual({
      errno: 34,
      kernelMessage: "VXLAN ID must be lower than 16777216",
      offset: 0x34,
    });
  });

  test("reads an error without them, and an acknowledgement", () => {
    expect(decodeVerdict(readCapturedMessage("error-plain")).errno).toBe(19);
    expect(decodeVerdict(readCapturedMessage("ack")).errno).toBe(0);
  });

  test("finds the attributes behind a request that is echoed in full", () => {
    const capped = readCapturedMessage("error-with-text");
    // As without NETLINK_CAP_ACK: the request's 60 bytes instead of its header alone.
    const body = Buffer.concat([capped.body.subarray(0, 20), Buffer.alloc(44), capped.body.subarray(20)]);
    expect(decodeVerdict({ ...capped, flags: 0x200, body })).toMatchObject({ errno: 34, offset: 0x34 });
  });

  test("reads an error that rides on the end of a dump", () => {
    const done = { type: 3, flags: 2, sequence: 1, port: 1 };
    expect(decodeVerdict({ ...done, body: Buffer.from("fcffffff", "hex") })).toEqual({ errno: 4 });
    expect(decodeVerdict({ ...done, body: new Uint8Array(0) })).toEqual({ errno: 0 });
  });

  test("throws DecodeError or nothing at every cut", () => {
    const whole = readCapture("error-with-text");
    for (let length = 0; length < whole.length; length++) {
      expect(
        () => [...messagesIn(whole.subarray(0, length))].map(decodeVerdict),
        `${length} bytes`,
      ).toSatisfy((read: () => unknown) => throwsOnlyDecodeErrors(read) && (length === 0 || throws(read)));
      const { body, ...message } = readCapturedMessage("error-with-text");
      const cut = () => decodeVerdict({ ...message, body: body.subarray(0, length) });
      expect(cut, `body of ${length} bytes`).toSatisfy(throwsOnlyDecodeErrors);
    }
  });
});

function throws(read: () => unknown): boolean {
  try {
    read();
    return false;
  } catch {
    return true;
  }
}

function throwsOnlyDecodeErrors(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch (error) {
    return error instanceof DecodeError;
  }
}
