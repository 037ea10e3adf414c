import { describe, expect, test } from "vitest";
import { interpolate, interpolateAll, parseEnvFile } from "./interpolate.ts";

const variables = { A: "a", EMPTY: "" };

test.each([
  ["$A ${A}", "a a"],
  ["$$A $${A}", "$A ${A}"],
  ["${NO:-x} ${NO-x} ${EMPTY:-x} ${EMPTY-x}", "x x x "],
  ["${A:+y} ${A+y} ${EMPTY:+y}|${EMPTY+y}|${NO+y}", "y y |y|"],
  ["${NO:-${A}-${NO:-deep}}", "a-deep"],
  ["$NO|${NO}", "|"],
  ["cost: 5$ and $1", "cost: 5$ and $1"],
])("%s becomes %s", (text, expected) => {
  expect(interpolate(text, variables)).toBe(expected);
});

describe("what is asked for and not there", () => {
  test.each([
    ["${NO:?say $A}", "Cannot interpolate ${NO}: say a"],
    ["${EMPTY:?}", "Cannot interpolate ${EMPTY}: it is not set"],
    ["x${A", 'Cannot interpolate "x${A": "${A" is not closed'],
    ["${A b}", 'Cannot interpolate "${A b}": "${A b}" is no variable'],
  ])("%s is refused", (text, message) => {
    expect(() => interpolate(text, variables)).toThrow(message);
  });
});

test("values are put into texts at every depth, and nowhere else", () => {
  expect(interpolateAll({ $A: ["$A", 5, { x: null, y: true, z: "${A}" }] }, variables)).toEqual({
    $A: ["a", 5, { x: null, y: true, z: "a" }],
  });
});

test(".env", () => {
  expect(parseEnvFile("# no\nA=1\nexport B = 'two # 2'\nC=\"3\"\nD=4 # four\n\nnonsense\nE=")).toEqual({
    A: "1",
    B: "two # 2",
    C: "3",
    D: "4",
    E: "",
  });
});
