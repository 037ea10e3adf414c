import { expect, test } from "vitest";
import { Fields, mapEntries, message } from "./protobuf.ts";

test("writes what the encoding guide shows", () => {
  // https://protobuf.dev/programming-guides/encoding: 150 in field 1, "testing" in field 2, the former in field 3
  expect(Buffer.from(message([1, 150])).toString("hex")).toBe("089601");
  expect(Buffer.from(message([2, "testing"])).toString("hex")).toBe("120774657374696e67");
  expect(Buffer.from(message([3, message([1, 150])])).toString("hex")).toBe("1a03089601");
});

test("reads what it writes, and defaults for what is not there", () => {
  const bytes = message(
    [1, "pod"],
    [2, 70_000],
    [3, ["a", "b"]],
    [4, message([1, true])],
    [5, mapEntries({ k: "v" })],
    [20, 0],
  );
  const fields = new Fields(bytes);
  expect([fields.text(1), fields.number(2), fields.texts(3)]).toEqual(["pod", 70_000, ["a", "b"]]);
  expect(fields.message(4).number(1)).toBe(1);
  expect(fields.messages(5).map((entry) => [entry.text(1), entry.text(2)])).toEqual([["k", "v"]]);
  expect([fields.text(9), fields.number(9), fields.messages(9), fields.message(9).text(1)]).toEqual([
    "",
    0,
    [],
    "",
  ]);
});

test("refuses what is cut off", () => {
  const bytes = message([1, "pod"], [2, message([1, "x"])]);
  for (let length = 1; length < bytes.length; length++) {
    if (length !== 5) expect(() => new Fields(bytes.subarray(0, length)).message(2)).toThrow(RangeError);
  }
});
