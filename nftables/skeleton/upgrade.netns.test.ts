import { readFileSync } from "node:fs";
import { afterEach, beforeEach, expect, it } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { parseIp } from "#net/ip.ts";
import { masqueradeElements } from "#nftables/masquerade.ts";
import { type NetworkPolicy, policyElements } from "#nftables/network-policy.ts";
import { Nftables } from "#nftables/nftables.ts";
import { applyOverlayRules } from "#nftables/overlay-rules.ts";
import { ownerTag } from "#nftables/owner.ts";
import { ProgramError } from "#nftables/program.ts";
import { skeletonText } from "#nftables/skeleton.ts";
import { TestNamespace } from "#testing/test-namespace.ts";

/** The rules of version 5, which had no optional parts, as that version loaded them. */
const version5 = readFileSync(new URL("../../testing/captures/skeleton-5.nft", import.meta.url), "utf8");

/** The rules of version 8 with all of its parts. */
const version8 = readFileSync(new URL("../../testing/captures/skeleton-8.nft", import.meta.url), "utf8");

/** The rules of version 9 with all of its parts. */
const version9 = readFileSync(new URL("../../testing/captures/skeleton-9.nft", import.meta.url), "utf8");

const masquerade = (address: string, container = "new") =>
  masqueradeElements({ addresses: [parseCidr(address)], owner: ownerTag("net", container, "eth0") });

const open: NetworkPolicy = {
  internal: false,
  icc: true,
  isolated: false,
  access: { 4: "open", 6: "open" },
  trusted: [],
};
const policyOf = (device: string, policy: Partial<NetworkPolicy>) =>
  policyElements(parseIfName(device), { ...open, ...policy });

const internalRule = "iifname @internal iifname . oifname != @same_bridge drop";
const established = "ct status seen-reply,dnat";

let host: TestNamespace;
let nftables: Nftables;

beforeEach(() => {
  host = TestNamespace.create("nft");
  nftables = new Nftables({ namespacePath: host.path });
});
afterEach(() => {
  nftables.close();
  host.remove();
});

const chain = (name: string) => host.run(`nft list chain inet netctl ${name}`);
/** Of every base chain: `forward filter`. */
const baseChains = () =>
  [...host.run("nft list table inet netctl").matchAll(/chain (\w+) \{\n\t\ttype (\w+) hook/gu)]
    .map(([, name, type]) => `${name} ${type}`)
    .sort();

async function loadVersion5(elements: string): Promise<void> {
  await nftables.nft.run(version5);
  host.run(elements);
  expect(await nftables.skeletonState("inet")).toBe("outdated");
}

it("keeps what containers of the earlier version have, their networks' promises and the operator's rules", async () => {
  await loadVersion5(`
    nft add element inet netctl masquerade4 '{ 10.1.0.2 comment "${ownerTag("net", "old", "eth0")}" }'
    nft add element inet netctl ports4 '{ tcp . 8080 : 10.1.0.2 . 80 }'
    nft add element inet netctl internal '{ br-secret }'
    nft add element inet netctl isolated4 '{ br-secret }'
    nft add element inet netctl protected6 '{ br-web }'
    nft add element inet netctl vxlan_ports '{ 4789 }'
    nft add rule inet netctl user_forward ip saddr 192.0.2.66 drop`);
  await nftables.apply(masquerade("10.1.0.3/16"));
  expect(await nftables.skeletonState("inet")).toBe("current");
  expect((await nftables.list("masquerade4")).map(({ owner }) => owner?.containerId)).toEqual(
    expect.arrayContaining(["new", "old"]),
  );
  expect(await nftables.list("ports4")).toHaveLength(1);
  expect(chain("user_forward")).toContain("192.0.2.66");
  expect(chain("forward")).toContain(internalRule);
  expect(chain("forward")).toContain("oifname @protected6 drop");
  expect(chain("input")).toContain("iifname @isolated4 drop");
  expect(chain("overlay_prerouting")).toContain("th dport 4789 jump overlay_arrives");
  const listing = host.run("nft list table inet netctl");
  for (const name of ["raw_prerouting", "vxlan_arrives", "vxlan_passes", "vxlan_fits", "vxlan_leaves"]) {
    expect(listing).not.toContain(`chain ${name}`);
  }
});

it("takes over a host of a cluster from version 8, whose tunnels had a chain of their own", async () => {
  await nftables.nft.run(version8);
  host.run(`
    nft add element inet netctl vxlan_ports '{ 4789 }'
    nft add element inet netctl vteps4 '{ 203.0.113.1, 203.0.113.2 }'
    nft add element inet netctl tunnels '{ nvweb }'
    nft add element inet netctl bridges '{ nvweb, nvbweb }'
    nft add element inet netctl same_bridge '{ nvweb . nvbweb, nvbweb . nvweb, nvbweb . nvbweb }'
    nft add rule inet netctl user_forward ip saddr 192.0.2.66 drop`);
  expect(await nftables.skeletonState("inet")).toBe("outdated");
  // A container's ADD may come before the agent of the new version does.
  await nftables.apply(masquerade("10.1.0.3/16"));
  expect(await nftables.skeletonState("inet")).toBe("current");
  expect(baseChains()).not.toContain("overlay_forward filter");
  const forward = chain("forward");
  expect(forward).toMatch(/jump overlay_passes\n.*jump overlay_fits\n.*jump user_forward\n/u);
  expect(chain("user_forward")).toContain("192.0.2.66");
  expect(chain("overlay_arrives")).toContain("ip saddr @vteps4 notrack return");
  expect(await nftables.list("vteps4")).toHaveLength(2);

  const [own, other] = ["203.0.113.1", "203.0.113.2"].map((text) => parseIp(text));
  await applyOverlayRules(nftables, {
    udpPort: 4789,
    vteps: [own, other].filter((ip) => ip !== undefined),
    own: own ? [{ address: own, device: { name: parseIfName("eth0"), ifindex: 4_000_000 } }] : [],
    encryptors: [],
    tunnels: [
      {
        tunnel: parseIfName("nvweb"),
        bridge: parseIfName("nvbweb"),
        internal: false,
        stretched: false,
      },
    ],
  });
  expect(host.run("nft list set inet netctl vxlan_sources4")).toContain(
    "{ 4000000 . 203.0.113.2 . 203.0.113.1 . 4789 }",
  );
  expect(await nftables.list("networkWays")).toHaveLength(2);
  expect(await nftables.skeletonState("inet")).toBe("current");
});

it.each([4789, 4790])("takes over a host of a cluster on port %i from versions 9 and 10", async (port) => {
  await nftables.nft.run(version9);
  host.run(`
    nft add element inet netctl vxlan_ports '{ ${port} }'
    nft add element inet netctl vteps4 '{ 203.0.113.1, 203.0.113.2 }'
    nft add element inet netctl vtep_pairs4 '{ 203.0.113.2 . 203.0.113.1 }'
    : version 10 had another set in its place
    nft add set inet netctl vxlan_ways4 '{ type ifname . ipv4_addr . ipv4_addr . inet_service; }'
    nft add element inet netctl vxlan_ways4 '{ "up0" . 203.0.113.2 . 203.0.113.1 . ${port} }'
    nft insert rule inet netctl overlay_arrives iifname . ip saddr . ip daddr . udp dport @vxlan_ways4 return`);
  expect(await nftables.skeletonState("inet")).toBe("outdated");
  // A container's ADD may come before the agent of the new version does: the port is guarded at once.
  await nftables.apply(masquerade("10.1.0.3/16"));
  expect(await nftables.skeletonState("inet")).toBe("current");
  expect(chain("overlay_prerouting")).toContain(
    `${port === 4789 ? "th dport 4789" : "udp dport @vxlan_ports"} jump overlay_arrives`,
  );
  expect(await nftables.list("vteps4")).toHaveLength(2);
  expect(host.run("nft list table inet netctl")).not.toMatch(/vtep_pairs|vxlan_ways/u);
});

it("has no rule before connections that no network of the host asked for", async () => {
  await loadVersion5("nft add element inet netctl ports4 '{ tcp . 8080 : 10.1.0.2 . 80 }'");
  await nftables.apply([...masquerade("10.1.0.3/16"), ...policyOf("br-plain", {})]);
  expect(baseChains()).toEqual([
    "forward filter",
    "input filter",
    "loopback_prerouting nat",
    "nat_output nat",
    "nat_prerouting nat",
    "postrouting nat",
  ]);
  expect(chain("forward")).not.toMatch(/@internal|@tunnels|@ingress_peers|@protected4|ct st/u);
});

it("loads each part with the first element that needs it, and keeps it", async () => {
  await nftables.apply(policyOf("br-web", { access: { 4: "protected", 6: "open" } }));
  expect(chain("forward")).toContain("oifname @protected4 drop");
  expect(chain("forward")).not.toContain(internalRule);

  await nftables.apply(policyOf("br-secret", { internal: true }));
  const forward = chain("forward");
  expect(forward).toContain("oifname @protected4 drop");
  expect(forward.indexOf(internalRule)).toBeGreaterThan(0);
  expect(forward.indexOf(internalRule)).toBeLessThan(forward.indexOf(established));

  await applyOverlayRules(nftables, { udpPort: 4789, vteps: [], own: [], encryptors: [], tunnels: [] });
  expect(baseChains()).toContain("overlay_prerouting filter");
  expect(chain("forward")).toContain("jump overlay_fits");
  expect(chain("forward")).toContain(internalRule);
  expect(await nftables.skeletonState("inet")).toBe("current");

  const whole = chain("forward");
  host.run("nft flush chain inet netctl forward");
  expect(await nftables.skeletonState("inet")).toBe("damaged");
  await nftables.load("inet");
  expect(chain("forward")).toBe(whole);
});

it("never takes a part away that another process has loaded meanwhile", async () => {
  await nftables.apply(policyOf("br-secret", { internal: true }));
  const before = host.run("nft list ruleset");
  await expect(nftables.nft.run(skeletonText("inet", new Set()))).rejects.toThrow(ProgramError);
  expect(host.run("nft list ruleset")).toBe(before);
});

it("comes back whole after a flush, by the first element that needs a part", async () => {
  const elements = policyOf("br-secret", { internal: true, isolated: true });
  await nftables.apply(elements);
  const before = [chain("forward"), chain("input")];
  host.run("nft flush ruleset");
  await nftables.apply(elements);
  expect([chain("forward"), chain("input")]).toEqual(before);
});
