import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { parseCidr } from "#net/cidr.ts";
import { configReaders } from "#suite/config-readers.ts";
import { pluginNames } from "#suite/plugins.ts";
import { pluginFacts } from "./facts.ts";
import type { Found } from "./finding.ts";
import { readForLint } from "./read.ts";
import { findingsOf } from "./rules.ts";

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-lint-"));
  for (const name of [...pluginFacts.keys(), "aws-cni"])
    writeFileSync(join(directory, name), "", { mode: 0o755 });
});
afterAll(() => rmSync(directory, { recursive: true }));

const ipam = { type: "host-local", ranges: [[{ subnet: "10.9.0.0/24" }]], routes: [{ dst: "0.0.0.0/0" }] };
const bridge = { type: "bridge", bridge: "br0", isGateway: true, ipMasq: true, ipam };
const portmap = { type: "portmap", capabilities: { portMappings: true } };
const listOf = (...plugins: readonly JsonObject[]): JsonObject => ({
  cniVersion: "1.0.0",
  cniVersions: ["1.0.0", "1.1.0"],
  name: "web",
  plugins,
});

async function lint(list: JsonObject): Promise<readonly Found[]> {
  const file = join(directory, "10-web.conflist");
  writeFileSync(file, JSON.stringify(list));
  const { subject, findings } = await readForLint(file);
  if (subject === undefined) return findings;
  const taken = [{ cidr: parseCidr("10.8.0.0/16"), by: "network other" }];
  const host = [{ cidr: parseCidr("192.168.1.0/24"), by: "eth0" }];
  return [
    ...findings,
    ...findingsOf(subject, { path: [directory], readers: configReaders, networks: taken, host }),
  ];
}

test("nothing is found in a list as it should be", async () => {
  expect(await lint(listOf(bridge, { type: "firewall" }, portmap))).toEqual([]);
});

test("every plugin of the suite is known, and its fields are", () => {
  const readers = Object.keys({
    ...configReaders.interfaces,
    ...configReaders.chained,
    ...configReaders.ipam,
  });
  expect([...pluginFacts.keys()].sort()).toEqual([...pluginNames].sort());
  expect(readers.sort()).toEqual([...pluginNames].sort());
});

describe("each of these is found, with its place", () => {
  const subnet = (text: string) => ({ ...bridge, ipam: { type: "host-local", subnet: text } });
  test.each<[id: string, severity: string, path: string, list: JsonObject]>([
    ["version-missing", "warning", "$", { name: "web", plugins: [bridge] }],
    ["version-old", "warning", "$.cniVersion", { ...listOf(bridge), cniVersion: "0.3.1", cniVersions: [] }],
    ["version-without-gc", "note", "$.cniVersion", { ...listOf(bridge), cniVersions: [] }],
    ["version-unknown", "warning", "$.cniVersions[1]", { ...listOf(bridge), cniVersions: ["1.1.0", "7"] }],
    ["unusable", "error", "$", { ...listOf(bridge), cniVersion: "9.9", cniVersions: [] }],
    ["unusable", "error", "$", { ...listOf(bridge), name: "" }],
    ["field-unknown", "warning", "$.disableCheks", { ...listOf(bridge), disableCheks: true }],
    ["plugin-missing", "error", "$.plugins[0].type", listOf({ ...bridge, type: "brigde" })],
    ["plugin-unknown", "note", "$.plugins[0].type", listOf({ type: "aws-cni" })],
    ["ipam-type", "error", "$.plugins[0].ipam.type", listOf({ ...bridge, ipam: { type: "portmap" } })],
    ["order-chained-first", "error", "$.plugins[0].type", listOf(portmap, bridge)],
    ["order-two-interfaces", "error", "$.plugins[1].type", listOf(bridge, { type: "ptp", ipam })],
    ["order-ipam", "error", "$.plugins[1].type", listOf(bridge, { type: "host-local" })],
    ["order-twice", "error", "$.plugins[2].type", listOf(bridge, portmap, portmap)],
    [
      "order-vrf-after-sbr",
      "error",
      "$.plugins[2].type",
      listOf(bridge, { type: "sbr" }, { type: "vrf", vrfname: "blue" }),
    ],
    [
      "order-dns-before-tuning",
      "warning",
      "$.plugins[2].type",
      listOf(
        bridge,
        { type: "dns", capabilities: { aliases: true } },
        { type: "tuning", mac: "02:00:00:00:00:01" },
      ),
    ],
    [
      "contradiction-gateway",
      "warning",
      "$.plugins[0].isGateway",
      listOf({ ...bridge, isGateway: false, isDefaultGateway: true }),
    ],
    ["contradiction-masquerade", "warning", "$.plugins[0].ipMasq", listOf({ ...bridge, isGateway: false })],
    ["contradiction-ipam", "warning", "$.plugins[0].isGateway", listOf({ type: "bridge", isGateway: true })],
    [
      "contradiction-portmap",
      "warning",
      "$.plugins[1].type",
      listOf({ type: "macvlan", master: "eth0", ipam }, portmap),
    ],
    [
      "contradiction-internal",
      "warning",
      "$.plugins[1].type",
      listOf({ ...bridge, ipMasq: false, internal: true }, portmap),
    ],
    [
      "contradiction-mac",
      "error",
      "$.plugins[1].mac",
      listOf({ ...bridge, macspoofchk: true }, { type: "tuning", mac: "02:00:00:00:00:01" }),
    ],
    [
      "contradiction-ingress-policy",
      "error",
      "$.plugins[1].ingressPolicy",
      listOf({ type: "ptp", ipam }, { type: "firewall", ingressPolicy: "isolated" }),
    ],
    [
      "capability-unknown",
      "warning",
      "$.plugins[1].capabilities.portMapping",
      listOf(bridge, { type: "portmap", capabilities: { portMappings: true, portMapping: true } }),
    ],
    [
      "capability-not-understood",
      "warning",
      "$.plugins[0].capabilities.portMappings",
      listOf({ ...bridge, capabilities: { portMappings: true } }, portmap),
    ],
    ["capability-not-declared", "warning", "$.plugins[1]", listOf(bridge, { type: "portmap" })],
    ["capability-not-declared", "warning", "$.plugins[1]", listOf(bridge, { type: "bandwidth" })],
    ["field-unknown", "warning", "$.plugins[0].isGatway", listOf({ ...bridge, isGatway: true })],
    [
      "field-unknown",
      "warning",
      "$.plugins[0].ipam.ranges[0][0].gatway",
      listOf({
        ...bridge,
        ipam: { type: "host-local", ranges: [[{ subnet: "10.9.0.0/24", gatway: "10.9.0.1" }]] },
      }),
    ],
    ["value", "error", "$.plugins[0].mtu", listOf({ ...bridge, mtu: "1500" })],
    ["value", "error", "$.plugins[0].vlan", listOf({ ...bridge, vlan: 5000 })],
    ["value", "error", "$.plugins[0].ipam.subnet", listOf(subnet("10.9.0.0/33"))],
    ["value", "error", "$.plugins[0].ipam", listOf({ ...bridge, ipam: { type: "host-local" } })],
    ["subnet-overlaps-network", "error", "$.plugins[0].ipam.subnet", listOf(subnet("10.8.7.0/24"))],
    ["subnet-overlaps-host", "warning", "$.plugins[0].ipam.subnet", listOf(subnet("192.168.0.0/16"))],
  ])("%s (%s) at %s", async (id, severity, path, list) => {
    const found = await lint(list);
    expect(found.map((each) => `${each.id} ${each.severity} ${each.path}`)).toContain(
      `${id} ${severity} ${path}`,
    );
    for (const { evidence, remedy } of found) expect([evidence, remedy]).not.toContain("");
  });
});

test("a typing error is answered with the word that was meant", async () => {
  const found = await lint(
    listOf({ ...bridge, isGatway: true }, { ...portmap, capabilities: { portMaping: true } }),
  );
  expect(found.map(({ remedy }) => remedy)).toEqual(
    expect.arrayContaining(['write "isGateway"', 'write "portMappings"']),
  );
});

const real = join(import.meta.dirname, "../../testing/conflists");
test.each(readdirSync(real).filter((name) => name.endsWith(".conflist")))(
  "in %s, as people have it, nothing is wrong but for plugins that are not installed",
  async (name) => {
    const { subject, findings } = await readForLint(join(real, name));
    expect(findings).toEqual([]);
    if (subject === undefined) throw new Error(`${name} gives no network`);
    const all = findingsOf(subject, { path: [directory], readers: configReaders, networks: [], host: [] });
    expect(all.filter(({ id, severity }) => severity === "error" && id !== "plugin-missing")).toEqual([]);
  },
);
