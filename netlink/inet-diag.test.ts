import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseIp } from "#net/ip.ts";
import { DecodeError } from "./decode-error.ts";
import { decodeInetSocket, getInetSockets, SocketState } from "./inet-diag.ts";
import type { Message } from "./message.ts";

const message = (body: Uint8Array): Message => ({ type: 20, flags: 2, sequence: 1, port: 1, body });

/** Kernel 6.18: a socket that listens on 0.0.0.0:2024. */
const captured = Uint8Array.from(
  Buffer.from(
    "020a000007e8000000000000000000000000000000000000000000000000000000000000000000000000000017060000" +
      "000000000000000000000000800000000000000086020000050008000000000008000f00000000000c00150001000000" +
      "000000000600160052000000",
    "hex",
  ),
);

describe("decodeInetSocket", () => {
  it("reads a listening socket", () => {
    expect(decodeInetSocket(message(captured))).toEqual({
      family: 4,
      state: SocketState.Listen,
      address: parseIp("0.0.0.0"),
      port: 2024,
      ipv6Only: false,
      ifindex: 0,
      userId: 0,
      inode: 0x286,
    });
  });

  it("throws DecodeError and nothing else, wherever the message ends and whatever is in it", () => {
    const decodes = (body: Uint8Array) => {
      try {
        decodeInetSocket(message(body));
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError);
      }
    };
    for (let length = 0; length < captured.length; length++) decodes(captured.subarray(0, length));
    fc.assert(fc.property(fc.uint8Array({ maxLength: 120 }), decodes));
  });
});

describe("getInetSockets", () => {
  it("asks as ss does", () => {
    const { type, body } = getInetSockets({
      family: 6,
      protocol: 6,
      states: [SocketState.Close, SocketState.Listen],
    });
    expect(type).toBe(20);
    // struct inet_diag_req_v2 of `ss -6 -ltn`
    expect(Buffer.from(body).toString("hex")).toBe(`0a06000080040000${"00".repeat(48)}`);
  });
});
