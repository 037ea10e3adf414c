import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { sha256Hex } from "./sha256.ts";

test.each([
  ["", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
  ["abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
])("sha256Hex(%j) is what FIPS 180-4 says", (text, digest) => {
  expect(sha256Hex(text)).toBe(digest);
});

test("sha256Hex() agrees with OpenSSL", () => {
  const openssl = (text: string) => createHash("sha256").update(text).digest("hex");
  for (let length = 0; length < 300; length++) {
    const text = "x".repeat(length);
    expect(sha256Hex(text), `${length} bytes`).toBe(openssl(text));
  }
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 300 }), (text) => {
      expect(sha256Hex(text)).toBe(openssl(text));
    }),
  );
});
