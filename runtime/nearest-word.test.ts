import { expect, test } from "vitest";
import { nearestWord } from "./nearest-word.ts";

test.each([
  ["isgatway", ["isGateway", "ipMasq"], "isGateway"],
  ["portMapping", ["portMappings", "ips"], "portMappings"],
  ["subent", ["subnet", "gateway"], "subnet"],
  ["bakc", ["front", "back"], "back"],
  ["colour", ["subnet", "gateway"], undefined],
  ["", ["subnet"], undefined],
  ["x", [], undefined],
])("%s of %j is %s", (text, words, expected) => {
  expect(nearestWord(text, words)).toBe(expected);
});
