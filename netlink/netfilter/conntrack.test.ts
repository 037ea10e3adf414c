import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseIp } from "#net/ip.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Message } from "#netlink/message.ts";
import { decodeFlow, deleteFlow, getFlows } from "./conntrack.ts";

const message = (body: Uint8Array): Message => ({ type: 0x100, flags: 2, sequence: 1, port: 1, body });

/** Kernel 6.18: a datagram from 127.0.0.1:4321 to 127.0.0.1:7777, with `dnat ip to 192.0.2.1:8888`. */
const captured = Uint8Array.from(
  Buffer.from(
    "020000003400018014000180080001007f000001080002007f0000011c000280050001001100000006000200" +
      "10e10000060003001e610000340002801400018008000100c0000201080002007f0000011c00028005000100" +
      "110000000600020022b800000600030010e1000008000300000001a8080008000000000008000c00ec6889fd" +
      "08000b0000000001080007000000001d",
    "hex",
  ),
);

describe("decodeFlow", () => {
  it("reads both directions of a translated flow", () => {
    expect(decodeFlow(message(captured))).toEqual({
      family: 4,
      original: {
        source: parseIp("127.0.0.1"),
        destination: parseIp("127.0.0.1"),
        protocol: 17,
        sourcePort: 4321,
        destinationPort: 7777,
      },
      reply: {
        source: parseIp("192.0.2.1"),
        destination: parseIp("127.0.0.1"),
        protocol: 17,
        sourcePort: 8888,
        destinationPort: 4321,
      },
      id: 0xec6889fd,
      // IPS_CONFIRMED, IPS_DST_NAT, and both IPS_*_NAT_DONE
      status: 424,
      zone: undefined,
    });
  });

  it("throws DecodeError and nothing else, wherever the message ends and whatever is in it", () => {
    const decodes = (body: Uint8Array) => {
      try {
        decodeFlow(message(body));
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError);
      }
    };
    for (let length = 0; length < captured.length; length++) decodes(captured.subarray(0, length));
    fc.assert(fc.property(fc.uint8Array({ maxLength: 120 }), decodes));
  });
});

describe("getFlows", () => {
  it("asks for the flows of one protocol and port", () => {
    expect(
      Buffer.from(getFlows({ family: 4, protocol: 17, destinationPort: 7777 }).body).toString("hex"),
    ).toBe(
      "0200000018000180140002800500010011000000060003001e6100001400198008000100280000000800020000000000",
    );
  });
});

describe("deleteFlow", () => {
  it("names one flow by how it began and by its number", () => {
    const flow = decodeFlow(message(captured));
    if (!flow) throw new Error("no flow");
    const { op, body } = deleteFlow(flow);
    expect(op).toBe("forget the connection 127.0.0.1:4321 to 127.0.0.1:7777");
    // The first tuple as the kernel sent it, and CTA_ID.
    const wanted = [captured.subarray(0, 0x38), Buffer.from("08000c00ec6889fd", "hex")];
    expect(Buffer.from(body).toString("hex")).toBe(Buffer.concat(wanted).toString("hex"));
  });
});
