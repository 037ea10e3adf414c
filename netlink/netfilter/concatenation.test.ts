import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DecodeError } from "#netlink/decode-error.ts";
import { concatenate, splitConcatenation } from "./concatenation.ts";

describe("concatenation", () => {
  it("fills each field up to four bytes, as nft does for inet_proto . inet_service", () => {
    expect(concatenate([Uint8Array.of(6), Uint8Array.of(0x1f, 0x40)])).toEqual(
      Uint8Array.of(6, 0, 0, 0, 0x1f, 0x40, 0, 0),
    );
  });

  it("leaves a single field as it is", () => {
    expect(concatenate([Uint8Array.of(0x1f, 0x40)])).toEqual(Uint8Array.of(0x1f, 0x40));
  });

  it("splits what it joined", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 5 }),
        (fields) => {
          expect(
            splitConcatenation(
              concatenate(fields),
              fields.map((field) => field.length),
            ),
          ).toEqual(fields);
        },
      ),
    );
  });

  it("throws DecodeError for any other length", () => {
    for (const length of [0, 4, 7, 9, 12]) {
      expect(() => splitConcatenation(new Uint8Array(length), [1, 2])).toThrow(DecodeError);
    }
  });
});
