import { describe, expect, test } from "vitest";
import { nftCommands } from "./nft-text.ts";

const table = (elements: string, rules = "") => `table inet netctl {
	set masquerade4 {
		type ipv4_addr
		flags interval${elements === "" ? "" : `\n\t\telements = { ${elements} }`}
	}

	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		ip saddr @masquerade4 masquerade${rules}
	}
}
`;

describe("what nft has to be told", () => {
  test("nothing, where nothing changes", () => {
    expect(nftCommands(table("10.1.0.2"), table("10.1.0.2"))).toEqual([]);
  });
  test("the whole of a new table", () => {
    expect(nftCommands("", table("10.1.0.2"))).toEqual([table("10.1.0.2").trimEnd()]);
  });
  test("the elements that are new, with commas in their comments, over several lines", () => {
    const after = table('10.1.0.2 comment "a, {b}",\n\t\t\t     10.1.0.3, 10.1.0.4 : { 1, 2 }');
    expect(nftCommands(table('10.1.0.2 comment "a, {b}"'), after)).toEqual([
      "add element inet netctl masquerade4 { 10.1.0.3, 10.1.0.4 : { 1, 2 } }",
    ]);
    expect(nftCommands(table(""), table('10.1.0.2 comment "a, {b}"'))).toEqual([
      'add element inet netctl masquerade4 { 10.1.0.2 comment "a, {b}" }',
    ]);
  });
  test("rules that are new, and chains", () => {
    expect(nftCommands(table(""), table("", "\n\t\tip daddr 10.1.0.9 accept"))).toEqual([
      "add rule inet netctl postrouting ip daddr 10.1.0.9 accept",
    ]);
    const more = table("").replace(/\}\n$/, "\n\tchain other {\n\t\tcounter accept\n\t}\n}\n");
    expect(nftCommands(table(""), more)).toEqual([
      "table inet netctl {\n\tchain other {\n\t\tcounter accept\n\t}\n}",
    ]);
  });
});
