import { describe, expect, test } from "vitest";
import { decodeError, encodeCall } from "./gob.ts";

/** What the daemon of Debian's dhcp plugin (1.1.1) answered: a Response's definition and value, then an empty result. */
const definition =
  "3aff8103010108526573706f6e736501ff82000103010d536572766963654d6574686f64010c00010353657101060001054572726f72010c000000";
const success = `${definition}11ff82010c444843502e52656c65617365000aff83030102ff8400000003ff8400`;
const failure = `${definition}46ff82010c444843502e52656c6561736502336572726f722070617273696e67206e6574636f6e663a20756e657870656374656420656e64206f66204a534f4e20696e707574000aff83030102ff8400000003ff8400`;

describe("decodeError()", () => {
  test("is the error of the answer, or nothing for success", () => {
    expect(decodeError(Buffer.from(success, "hex"))).toBe("");
    expect(decodeError(Buffer.from(failure, "hex"))).toBe(
      "error parsing netconf: unexpected end of JSON input",
    );
  });

  test("waits for what has not come whole", () => {
    const bytes = Buffer.from(failure, "hex");
    const needed = (failure.length - "0aff83030102ff8400000003ff8400".length) / 2;
    for (let length = 0; length < bytes.length; length++) {
      const found = decodeError(bytes.subarray(0, length));
      if (length < needed) expect(found, String(length)).toBeUndefined();
      else expect(found, String(length)).toMatch(/^error parsing/u);
    }
  });

  test("refuses what is no answer", () => {
    for (const hex of ["04ff820901", "03ff8204", "00"])
      expect(() => decodeError(Buffer.from(hex, "hex")), hex).toThrow(RangeError);
  });
});

/** The daemon itself reads a whole call in testing/clients/dhcp-daemon.netns.test.ts. */
test("encodeCall() writes types in front of values, and leaves out what is empty", () => {
  const fields = [
    ["X", "x"],
    ["Y", ""],
    ["Z", new Uint8Array(200).fill(1)],
  ] as const;
  const text = Buffer.from(encodeCall("A.B", { name: "P", fields })).toString("hex");
  const [call, argument] = ["08ff820103412e4200", `ffd1ff84010178 02ffc8${"01".repeat(200)}00`];
  expect(text).toContain(call);
  expect(text).toContain(argument.replace(" ", ""));
  expect(text.indexOf("412e42")).toBeLessThan(text.indexOf("5a010a"));
});
