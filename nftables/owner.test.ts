import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ownerTag, parseOwnerTag, sameOwner } from "./owner.ts";

describe("ownerTag", () => {
  it("reads for people and parses back", () => {
    const tag = ownerTag("mynet", "3c9a01", "eth0");
    expect(tag).toMatch(/^[0-9a-f]{16} mynet eth0 3c9a01$/);
    expect(parseOwnerTag(tag)).toEqual({
      hash: tag.slice(0, 16),
      network: "mynet",
      ifName: "eth0",
      containerId: "3c9a01",
    });
  });

  it("tells apart what looks alike once joined or cut", () => {
    expect(sameOwner(ownerTag("a", "b c", "d"), ownerTag("a b", "c", "d"))).toBe(false);
    const id = "f".repeat(200);
    expect(sameOwner(ownerTag("n", `${id}1`, "eth0"), ownerTag("n", `${id}2`, "eth0"))).toBe(false);
  });

  it("fits nft's 128 bytes with the terminating zero and parses, whatever the names are", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: "binary" }),
        fc.string({ maxLength: 300 }),
        fc.string(),
        (network, id, ifName) => {
          const tag = ownerTag(network, id, ifName);
          expect(Buffer.byteLength(tag)).toBeLessThan(128);
          expect(tag).toMatch(/^[\x20-\x7e]+$/);
          expect(tag).not.toContain('"');
          expect(sameOwner(tag, ownerTag(network, id, ifName))).toBe(true);
        },
      ),
    );
  });

  it("does not take a foreign comment for an owner", () => {
    expect(parseOwnerTag("made by hand")).toBeUndefined();
    expect(sameOwner("made by hand", "made by hand")).toBe(false);
    expect(sameOwner("", "")).toBe(false);
  });
});
