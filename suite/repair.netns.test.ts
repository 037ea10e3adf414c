import { readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { withAttachmentLock, withNetworkLock } from "#journal/attachment-lock.ts";
import { formatElement } from "#nftables/element.ts";
import { PortRig, type Published } from "#testing/port-rig.ts";
import { ask } from "#testing/traffic.ts";
import { foundAnything, type RepairMemory, repair } from "./repair.ts";

let rig: PortRig;
let target: Published;

beforeEach(async () => {
  rig = new PortRig();
  target = await rig.attach({
    containerId: "target",
    mappings: [
      { hostPort: 8080, containerPort: 80, protocol: "tcp" },
      { hostPort: 8080, containerPort: 80, protocol: "udp" },
      { hostPort: 8081, containerPort: 80, protocol: "tcp", hostIP: "192.0.2.1" },
    ],
  });
  await rig.serve(target.container, "target", [80]);
});

afterEach(async () => {
  await rig.close();
});

/** The whole ruleset, without what the order of loading decides. */
function ruleset(): string {
  const listing = rig.namespace.run("nft -s list ruleset");
  // Elements of a hash set come in any order.
  return listing.replace(/elements = \{([^}]*)\}/gu, (_, body: string) =>
    body
      .split(/,\s+/u)
      .map((each) => each.trim())
      .sort()
      .join("\n"),
  );
}

const published = { protocol: "tcp", to: "192.0.2.1", port: 8080 } as const;

async function fromLan(): Promise<string> {
  const [answer = ""] = await ask(rig.lan, [published]);
  return answer;
}

describe("repair", () => {
  it("finds nothing where nothing is missing, and changes nothing", async () => {
    const before = ruleset();
    const generation = rig.host.nftables.generation();
    const found = await repair(rig.host);
    expect(foundAnything(found)).toBe(false);
    expect(found.looked).toBe(2);
    expect(rig.host.nftables.generation()).toBe(generation);
    expect(ruleset()).toBe(before);
  });

  it("puts everything back after nft flush ruleset, so that traffic flows as before", async () => {
    const other = await rig.attach({ containerId: "other", network: "net2" });
    const before = ruleset();
    rig.namespace.run("nft flush ruleset");
    expect(await fromLan()).toBe("ECONNREFUSED");
    const found = await repair(rig.host);
    expect(found.tables).toEqual([{ family: "inet", was: "missing" }]);
    expect(found.failed).toEqual([]);
    expect(found.attachments.map(({ key, plugin }) => `${key.containerId} ${plugin}`).sort()).toEqual(
      ["other bridge", "other portmap", "target bridge", "target portmap"].filter(
        (each) => each !== "other portmap",
      ),
    );
    expect(ruleset()).toBe(before);
    expect(await fromLan()).toBe("target sees 192.0.2.2");
    // Masqueraded: the LAN knows no way to the container.
    await rig.serve(rig.lan, "lan", [7]);
    expect(await ask(other.container, [{ protocol: "tcp", to: "192.0.2.2", port: 7 }])).toEqual([
      "lan sees 192.0.2.1",
    ]);
  });

  it.each([
    ["our table", "nft delete table inet netctl"],
    ["the rules", "nft flush table inet netctl"],
    ["a chain's rules", "nft flush chain inet netctl nat_prerouting"],
    ["a map's elements", "nft flush map inet netctl ports4"],
    ["one element", "nft delete element inet netctl ports4 '{ tcp . 8080 }'"],
  ])("puts %s back", async (_what, command) => {
    const before = ruleset();
    rig.namespace.run(command);
    expect(await fromLan()).toBe("ECONNREFUSED");
    expect((await repair(rig.host)).failed).toEqual([]);
    expect(await fromLan()).toBe("target sees 192.0.2.2");
    expect(ruleset()).toBe(before);
  });

  it("wakes a table that was put to sleep", async () => {
    rig.namespace.run("nft add table inet netctl '{ flags dormant; }'");
    expect(await fromLan()).toBe("ECONNREFUSED");
    await repair(rig.host);
    expect(await fromLan()).toBe("target sees 192.0.2.2");
  });

  it("leaves what others have made alone, in our table too", async () => {
    rig.namespace.run(
      "nft add table inet mine; nft add chain inet mine c; nft add rule inet netctl postrouting counter; nft add element inet netctl ports4 '{ tcp . 99 comment \"mine\" : 10.9.9.9 . 9 }'; nft delete element inet netctl masquerade4 '{ 10.1.0.2 }'",
    );
    await repair(rig.host);
    const after = ruleset();
    expect(after).toContain("table inet mine");
    expect(after).toMatch(/counter\n/u);
    expect(after).toContain("10.9.9.9 . 9");
    expect(after).toContain("10.1.0.2 comment");
  });

  it("only says what is missing, when it is asked to", async () => {
    rig.namespace.run("nft flush ruleset");
    const found = await repair(rig.host, { dryRun: true });
    expect(found.attachments.flatMap(({ elements }) => elements.map(formatElement))).toContain(
      "ports4 { tcp . 8080 : 10.1.0.2 . 80 }",
    );
    expect(ruleset()).toBe("");
  });

  it("says that a key is somebody else's by now, and puts the rest back", async () => {
    rig.namespace.run("nft flush map inet netctl ports4; nft flush set inet netctl masquerade4");
    rig.namespace.run("nft add element inet netctl ports4 '{ tcp . 8080 : 10.9.9.9 . 9 }'");
    const found = await repair(rig.host);
    expect(found.attachments.flatMap(({ elements }) => elements.map(formatElement))).not.toContain(
      "ports4 { tcp . 8080 : 10.1.0.2 . 80 }",
    );
    expect(ruleset()).toContain("10.9.9.9 . 9");
    expect(ruleset()).toContain("10.1.0.2 comment");
  });

  it("puts nothing back for an attachment that is gone or going", async () => {
    await rig.forget("target");
    rig.host.journal.leave({ network: "net1", containerId: "target", ifName: "eth0" }, "bridge");
    rig.namespace.run("nft flush ruleset");
    const found = await repair(rig.host);
    expect(found).toMatchObject({ attachments: [], looked: 0, unsettled: true });
    expect(ruleset()).toBe("");
  });

  it("puts nothing back for an attachment whose DEL came meanwhile, from another process", async () => {
    rig.namespace.run("nft flush ruleset");
    const { nftables, journal } = rig.host;
    const key = { network: "net1", containerId: "target", ifName: "eth0" };
    // As a process that has just looked, found nothing to remove, and now takes the record away.
    const late = nftables.skeletonState.bind(nftables);
    nftables.skeletonState = async (family) => {
      journal.remove(key, "portmap");
      return await late(family);
    };
    await repair(rig.host);
    expect(rig.elements()).toEqual([]);
    expect(ruleset()).toContain("10.1.0.2 comment");
  });

  it("puts nothing back for an attachment whose DEL has begun, and looked already", async () => {
    rig.namespace.run("nft flush ruleset");
    const { nftables, journal } = rig.host;
    const late = nftables.skeletonState.bind(nftables);
    nftables.skeletonState = async (family) => {
      for (const plugin of ["bridge", "portmap"])
        journal.leave({ network: "net1", containerId: "target", ifName: "eth0" }, plugin);
      return await late(family);
    };
    await repair(rig.host);
    expect(rig.elements()).toEqual([]);
    expect(ruleset()).not.toContain("10.1.0.2 comment");
  });

  it("leaves an attachment to who works on it, and says so", async () => {
    const other = await rig.attach({ containerId: "other" });
    const before = ruleset();
    rig.namespace.run("nft flush ruleset");
    const { run } = rig.host.directories;
    const key = { network: "net1", containerId: "target", ifName: "eth0" };
    const found = await withAttachmentLock(run, key, () => repair(rig.host), { timeoutMs: 0 });
    expect(found).toMatchObject({ unsettled: true, busy: [key] });
    expect(ruleset()).toContain(`${other.ip4} comment`);
    expect(ruleset()).not.toContain(`${target.ip4} comment`);
    expect(await repair(rig.host)).toMatchObject({ unsettled: false });
    expect(ruleset()).toBe(before);
    expect(foundAnything(await repair(rig.host))).toBe(false);
  });

  it("leaves a network to the GC that is under way in it", async () => {
    rig.namespace.run("nft flush ruleset");
    const { run } = rig.host.directories;
    const found = await withNetworkLock(run, "net1", () => repair(rig.host), { timeoutMs: 0 });
    expect(found).toMatchObject({ unsettled: true, attachments: [] });
    expect(ruleset()).not.toContain(target.ip4);
  });

  it("forgets flows of UDP that began while nothing was published or masqueraded", async () => {
    await rig.serve(rig.lan, "lan", [7]);
    const inbound = { ...published, protocol: "udp", fromPort: 4444 } as const;
    const outbound = { protocol: "udp", to: "192.0.2.2", port: 7, fromPort: 5555 } as const;
    // So that what went out untranslated is not refused, but goes unanswered.
    rig.namespace.run(
      "nft flush ruleset; nft add table inet t; nft add chain inet t c '{ type filter hook input priority 0; }'; nft add rule inet t c ct state new udp dport 8080 accept",
    );
    await ask(rig.lan, [inbound]);
    await ask(target.container, [outbound]);
    await repair(rig.host);
    expect(await ask(rig.lan, [inbound])).toEqual(["target sees 192.0.2.2"]);
    expect(await ask(target.container, [outbound])).toEqual(["lan sees 192.0.2.1"]);
  });

  it("puts back ports with conditions, and those of the iptables backend", async () => {
    for (const [containerId, hostPort, fields] of [
      ["conditional", 9001, { conditionsV4: ["ip", "saddr", "192.0.2.2"] }],
      ["iptables", 9002, { backend: "iptables", insistOnBackend: true }],
    ] as const) {
      const attached = await rig.attach({
        containerId,
        fields,
        mappings: [{ hostPort, containerPort: 80, protocol: "tcp" }],
      });
      await rig.serve(attached.container, containerId, [80]);
    }
    const questions = [9001, 9002].map((port) => ({ ...published, port }));
    const expected = ["conditional sees 192.0.2.2", "iptables sees 192.0.2.2"];
    expect(await ask(rig.lan, questions)).toEqual(expected);
    rig.namespace.run("nft flush ruleset");
    const found = await repair(rig.host);
    expect(found.failed).toEqual([]);
    expect(found.attachments.filter(({ rules }) => rules.length > 0)).toHaveLength(2);
    expect(await ask(rig.lan, questions)).toEqual(expected);
    expect(foundAnything(await repair(rig.host))).toBe(false);
  });

  it("reads the records again that have changed since its last look, and no others", async () => {
    const other = await rig.attach({ containerId: "other" });
    const { state } = rig.host.directories;
    const hourAgo = new Date(Date.now() - 3_600_000);
    const directory = join(state, "journal/net1");
    for (const name of readdirSync(directory)) utimesSync(join(directory, name), hourAgo, hourAgo);
    const memory: RepairMemory = new Map();
    await repair(rig.host, { memory });
    const remembered = [...memory.values()];
    expect(remembered).toHaveLength(3);
    for (const plugin of ["bridge", "portmap"])
      rig.host.journal.leave({ network: "net1", containerId: "target", ifName: "eth0" }, plugin);
    rig.namespace.run("nft flush ruleset");
    expect(await repair(rig.host, { memory })).toMatchObject({ looked: 1, unsettled: true });
    expect(ruleset()).toContain(`${other.ip4} comment`);
    expect(ruleset()).not.toContain(`${target.ip4} comment`);
    expect(remembered).toEqual(expect.arrayContaining([...memory.values()]));
    expect(memory.size).toBe(1);
  });

  it("gives a port that several networks of a container publish back to the one that had it", async () => {
    const mappings = [{ hostPort: 8090, containerPort: 80, protocol: "tcp" }];
    const first = await rig.attach({ containerId: "two", mappings });
    await rig.attach({ containerId: "two", mappings, network: "net2", to: first.container, ifName: "eth1" });
    await rig.serve(first.container, "two", [80]);
    const before = ruleset();
    rig.namespace.run("nft flush ruleset");
    await repair(rig.host);
    expect(ruleset()).toBe(before);
    expect(foundAnything(await repair(rig.host))).toBe(false);
  });
});
