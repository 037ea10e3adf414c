import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DecodeError } from "#netlink/decode-error.ts";
import { decodeComment, encodeComment } from "./comment.ts";

describe("comment", () => {
  it("is written as nft writes it", () => {
    // nft 1.0.6 --debug=netlink: userdata = { \x00\x04abc\x00 }
    expect(encodeComment("abc")).toEqual(Uint8Array.of(0, 4, 0x61, 0x62, 0x63, 0));
  });

  it("reads back what was written, up to 127 bytes", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 127 }), (text) => {
        fc.pre(Buffer.byteLength(text) <= 127 && !text.includes("\0"));
        expect(decodeComment(encodeComment(text))).toBe(text);
      }),
    );
    expect(decodeComment(encodeComment("x".repeat(127)))).toHaveLength(127);
    expect(() => encodeComment("x".repeat(128))).toThrow(RangeError);
    expect(() => encodeComment("ä".repeat(64))).toThrow(RangeError);
  });

  it("finds the comment behind entries of other programs", () => {
    expect(decodeComment(Uint8Array.of(1, 2, 9, 9, 0, 2, 0x78, 0))).toBe("x");
    expect(decodeComment(Uint8Array.of(1, 0))).toBe("");
    expect(decodeComment(new Uint8Array(0))).toBe("");
  });

  it("throws DecodeError for entries that reach beyond the end", () => {
    const bytes = encodeComment("abc");
    for (let length = 1; length < bytes.length; length++) {
      expect(() => decodeComment(bytes.subarray(0, length))).toThrow(DecodeError);
    }
  });
});
