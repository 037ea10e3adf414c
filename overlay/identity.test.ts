import { describe, expect, it } from "vitest";
import { encryptedVtepName, overlayBridgeName, vtepName } from "./identity.ts";

describe("the devices of networks", () => {
  it("never share a name", () => {
    // Numbers that begin with each digit, of every length; 513216 is b000 and 46655 zzz in base 36.
    const numbers = [1, 11, 35, 36, 396, 1296, 4096, 14256, 46655, 46656, 513216, 513217, 517312, 16_777_215];
    const withPrefixes = numbers.flatMap((vni) => [vni, ...[4096, 14256].map((low) => 513_216 + low)]);
    const names = [...new Set(withPrefixes)].flatMap((vni) => [
      overlayBridgeName(vni),
      vtepName(vni, 4),
      vtepName(vni, 6),
      encryptedVtepName(vni, "a"),
      encryptedVtepName(vni, "b"),
    ]);
    expect(new Set(names).size).toBe(names.length);
  });
});
