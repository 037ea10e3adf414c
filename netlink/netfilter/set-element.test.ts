import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Message } from "#netlink/message.ts";
import { decodeComment } from "./comment.ts";
import { NetfilterFamily } from "./header.ts";
import { addElements, decodeElements, deleteElements, type SetElement, VerdictCode } from "./set-element.ts";

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/\s/gu, ""), "hex"));
const message = (body: Uint8Array): Message => ({ type: 2572, flags: 2, sequence: 1, port: 1, body });

/** nft 1.0.6: add element inet netctl same_subnet4 { 192.168.1.0/24 . 192.168.1.0/24 comment "x" }, without NFTA_SET_ELEM_LIST_SET_ID */
const addedByNft = hex(`
  01000000 0b000100 6e657463746c0000 11000200 73616d655f7375626e65743400000000
  30000380 2c000180 10000180 0c000100 c0a80100c0a80100 10000a80 0c000100 c0a801ffc0a801ff 08000600 00027800`);

/** Kernel 6.18, dump of: map v { type ifname : verdict; elements = { "x" comment "z" : drop, "eth0" : jump c } } */
const verdictMap = hex(
  `01000002060001007400000006000200760000006c000300340001001800010014000100780000000000000000000000
   00000000100002000c00020008000100000000000800060000027a003400010018000100140001006574683000000000
   0000000000000000180002001400020008000100fffffffd0600020063000000`,
);

/** Kernel 6.18, dump of: map ports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;
 *  elements = { 192.0.2.1 . tcp . 8080 comment "own er" : 10.1.0.2 . 80 } } */
const portMap = hex(
  `0100000206000100740000000a000200706f7274730000003c000300380001001400010010000100c000020106000000
   1f900000100002000c0001000a010002005000000d00060000076f776e20657200000000`,
);

/** Kernel 6.18, dump of: map r { type inet_proto . inet_service : ipv4_addr; flags interval;
 *  elements = { tcp . 8000-8010 comment "q" : 10.0.0.1 } } */
const rangeMap = hex(
  `01000002060001007400000006000200720000003c00030038000100100001000c000100060000001f40000010000a00
   0c000100060000001f4a00000c000200080001000a0000010800060000027100`,
);

/** Kernel 6.18: the last message of a dump, with a list that is empty. */
const emptyList = hex("010000020600010074000000060002007600000004000300");

describe("addElements", () => {
  it("writes what nft writes", () => {
    const { body } = addElements(
      "test",
      { family: NetfilterFamily.inet, table: "netctl", set: "same_subnet4" },
      [
        {
          key: { value: hex("c0a80100c0a80100") },
          keyEnd: { value: hex("c0a801ffc0a801ff") },
          userdata: hex("00027800"),
        },
      ],
    );
    expect(Buffer.from(body).toString("hex")).toBe(Buffer.from(addedByNft).toString("hex"));
  });

  it("refuses a list that no attribute can hold, instead of writing nonsense", () => {
    const element: SetElement = { key: { value: new Uint8Array(200) } };
    const set = { family: NetfilterFamily.inet, table: "t", set: "s" };
    expect(() =>
      deleteElements(
        "test",
        set,
        Array.from({ length: 400 }, () => element),
      ),
    ).toThrow(RangeError);
  });
});

describe("decodeElements", () => {
  it("reads verdicts", () => {
    const elements = decodeElements(message(verdictMap));
    expect(elements.map(({ data }) => data?.verdict)).toEqual([
      { code: VerdictCode.Drop },
      { code: VerdictCode.Jump, chain: "c" },
    ]);
    expect(elements.map(({ userdata }) => decodeComment(userdata ?? new Uint8Array(0)))).toEqual(["z", ""]);
  });

  it("reads concatenated keys and data", () => {
    const [element] = decodeElements(message(portMap));
    expect(element?.key?.value).toEqual(hex("c0000201 06000000 1f900000"));
    expect(element?.data?.value).toEqual(hex("0a010002 00500000"));
    expect(decodeComment(element?.userdata ?? new Uint8Array(0))).toBe("own er");
  });

  it("reads both ends of a range", () => {
    const [element] = decodeElements(message(rangeMap));
    expect(element?.key?.value).toEqual(hex("06000000 1f400000"));
    expect(element?.keyEnd?.value).toEqual(hex("06000000 1f4a0000"));
  });

  it("reads the empty list that ends a dump", () => {
    expect(decodeElements(message(emptyList))).toEqual([]);
  });

  it("throws DecodeError and nothing else, wherever the message is cut", () => {
    for (const body of [addedByNft, verdictMap, portMap, rangeMap]) {
      for (let length = 0; length < body.length; length++) {
        try {
          const elements = decodeElements(message(body.subarray(0, length)));
          // Between two attributes a shorter message is a message, too.
          expect(elements).toEqual([]);
        } catch (error) {
          expect(error).toBeInstanceOf(DecodeError);
        }
      }
    }
  });

  it("survives random bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(verdictMap, portMap), (noise, real) => {
        for (const body of [noise, Uint8Array.from([...real.subarray(0, 24), ...noise])]) {
          try {
            decodeElements(message(body));
          } catch (error) {
            expect(error).toBeInstanceOf(DecodeError);
          }
        }
      }),
    );
  });

  it("reads back what was written", () => {
    const data = fc.oneof(
      fc.record({ value: fc.uint8Array({ minLength: 1, maxLength: 64 }) }),
      fc.record({
        verdict: fc.record({
          code: fc.constantFrom(...Object.values(VerdictCode)),
          chain: fc.constantFrom("a", "jump_here"),
        }),
      }),
    );
    const element = fc.record(
      {
        key: fc.record({ value: fc.uint8Array({ minLength: 1, maxLength: 64 }) }),
        keyEnd: fc.record({ value: fc.uint8Array({ minLength: 1, maxLength: 64 }) }),
        data,
        flags: fc.nat(3),
        timeoutMs: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        userdata: fc.uint8Array({ maxLength: 256 }),
      },
      { requiredKeys: ["key"] },
    );
    fc.assert(
      fc.property(fc.array(element, { maxLength: 20 }), (elements) => {
        const { body } = addElements(
          "test",
          { family: NetfilterFamily.inet, table: "t", set: "s" },
          elements,
        );
        expect(decodeElements(message(body))).toEqual(elements);
      }),
    );
  });
});
