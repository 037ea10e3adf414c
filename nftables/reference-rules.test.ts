import { expect, test } from "vitest";
import { splitWords } from "./reference-rules.ts";

test("splitWords() reads what iptables -S prints: quotes around blanks, backslashes before quotes", () => {
  // iptables 1.8.9 (nf_tables), of the Go bridge plugin 1.1.1
  const line = String.raw`-A POSTROUTING -s 10.4.0.2/32 -m comment --comment "name: \"pods\" id: \"a\\b\"" -j CNI-f3c3d8198b9ff05f6bbdf72c`;
  expect(splitWords(line)).toEqual([
    "-A",
    "POSTROUTING",
    "-s",
    "10.4.0.2/32",
    "-m",
    "comment",
    "--comment",
    String.raw`name: "pods" id: "a\b"`,
    "-j",
    "CNI-f3c3d8198b9ff05f6bbdf72c",
  ]);
});
