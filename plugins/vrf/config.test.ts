import { expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { readNetworkConfig } from "#cni/network-config.ts";
import { cniVersions } from "#cni/version.ts";
import { parseVrfConfig, type VrfConfig } from "./config.ts";

function parse(fields: JsonObject): VrfConfig {
  const json = { cniVersion: "1.1.0", name: "net1", type: "vrf", ...fields };
  return parseVrfConfig(readNetworkConfig(json, "ADD", cniVersions, () => {}));
}

test("a name, and a table or 0 for any", () => {
  expect(parse({ vrfname: "blue", table: 10 })).toEqual({ name: "blue", table: 10 });
  expect(parse({ vrfname: "blue", table: 0 })).toEqual({ name: "blue", table: undefined });
  expect(parse({ VrfName: "blue" })).toEqual({ name: "blue", table: undefined });
});

test.each([
  [{}, /vrfname is missing/],
  [{ vrfname: "" }, /vrfname: Cannot use "" as interface name/],
  [{ vrfname: "a/b" }, /"a\/b"/],
  [{ vrfname: "blue", table: -1 }, /table -1/],
  [{ vrfname: "blue", table: "10" }, /table "10"/],
])("%j is refused, naming field and value", (fields, message) => {
  expect(() => parse(fields as JsonObject)).toThrow(expect.objectContaining({ code: 7 }));
  expect(() => parse(fields as JsonObject)).toThrow(message);
});
