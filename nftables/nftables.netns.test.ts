import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Cidr, parseCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { parseIp } from "#net/ip.ts";
import { parseMac } from "#net/mac.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import type { Operation } from "./element.ts";
import { ConflictError } from "./error.ts";
import { macSpoofElements } from "./mac-spoof.ts";
import { masqueradeElements, masqueradeRefs } from "./masquerade.ts";
import { policyElements } from "./network-policy.ts";
import { Nftables } from "./nftables.ts";
import { type OwnerTag, ownerTag } from "./owner.ts";
import { findProgram } from "./program.ts";
import { skeletonText } from "./skeleton.ts";

const alice = ownerTag("net", "alice", "eth0");
const bob = ownerTag("net", "bob", "eth0");
const masquerade = (address: string, owner = alice) =>
  masqueradeElements({ addresses: [parseCidr(address)], owner });

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

/** What `nft` itself shows, on one line for each set. */
function listed(name: string, kind: "set" | "map" = "set"): string {
  const text = host.run(`nft list ${kind} inet netctl ${name}`).replace(/\s+/gu, " ");
  return /elements = \{ (.*?) \}/u.exec(text)?.[1] ?? "";
}

describe("apply", () => {
  it("makes the table and the elements as nft itself would", async () => {
    await nftables.apply([...masquerade("10.1.0.2/16"), ...masquerade("fd00::2/64")]);
    expect(listed("masquerade4")).toBe(`10.1.0.2 comment "${alice}"`);
    expect(listed("masquerade6")).toBe(`fd00::2 comment "${alice}"`);
    expect(listed("same_subnet4")).toBe("10.1.0.0/16 . 10.1.0.0/16");
    expect(listed("same_subnet6")).toBe("fd00::/64 . fd00::/64");
    expect(await nftables.skeletonState("inet")).toBe("current");
  });

  it("is seen by who has looked before, also where all was there already", async () => {
    const internal = { internal: true, icc: true, isolated: false, trusted: [] } as const;
    const policy = policyElements(parseIfName("br1"), { ...internal, access: { 4: "open", 6: "open" } });
    await nftables.apply(policy);
    const before = host.run("nft list ruleset");
    const generation = nftables.generation();
    await nftables.apply(policy);
    expect(nftables.generation()).toBeGreaterThan(generation);
    expect(host.run("nft list ruleset")).toBe(before);
  });

  it("touches only our tables, and the bridge table only when something needs it", async () => {
    host.run("nft add table inet foreign; nft add chain inet foreign c");
    const before = host.run("nft list table inet foreign");
    await nftables.apply(masquerade("10.1.0.2/16"));
    expect(host.run("nft list tables").trim().split("\n")).toEqual([
      "table inet foreign",
      "table inet netctl",
    ]);
    expect(host.run("nft list table inet foreign")).toBe(before);
  });

  it("can be repeated, and works on what nft has added", async () => {
    await nftables.load("inet");
    host.run("nft add element inet netctl same_subnet4 '{ 10.1.0.0/16 . 10.1.0.0/16 }'");
    await nftables.apply(masquerade("10.1.0.2/16"));
    const once = host.run("nft list ruleset");
    await nftables.apply(masquerade("10.1.0.2/16"));
    expect(host.run("nft list ruleset")).toBe(once);
  });

  it("takes an element over from an owner that is gone", async () => {
    await nftables.apply(masquerade("10.1.0.2/16", alice));
    await nftables.apply(masquerade("10.1.0.2/16", bob));
    expect(listed("masquerade4")).toBe(`10.1.0.2 comment "${bob}"`);
  });

  it("refuses another value for a map's key with the present owner's name, and does nothing at all", async () => {
    const port = (address: string, owner: OwnerTag): Operation => ({
      set: "ports4",
      key: ["tcp", 8080],
      value: [parseIp(address), 80],
      owner,
    });
    await nftables.apply([...masquerade("10.1.0.2/16"), port("10.1.0.2", alice)]);
    const before = host.run("nft list ruleset");
    const conflict = await nftables
      .apply([...masquerade("10.1.0.3/16", bob), port("10.1.0.3", bob)])
      .catch((error: unknown) => error);
    expect(conflict).toBeInstanceOf(ConflictError);
    expect(conflict).toMatchObject({
      message:
        "Cannot add ports4 { tcp . 8080 : 10.1.0.3 . 80 }: " +
        'container "alice" (eth0, network "net") has ports4 { tcp . 8080 : 10.1.0.2 . 80 }',
      present: { owner: { containerId: "alice" }, value: [parseIp("10.1.0.2"), 80] },
    });
    expect(host.run("nft list ruleset")).toBe(before);

    await nftables.apply([port("10.1.0.2", bob)]);
    expect(listed("ports4", "map")).toBe(`tcp . 8080 comment "${bob}" : 10.1.0.2 . 80`);
    expect((await nftables.differences([port("10.1.0.3", bob)])).map(({ message }) => message)).toEqual([
      "ports4 { tcp . 8080 : 10.1.0.3 . 80 } is there as ports4 { tcp . 8080 : 10.1.0.2 . 80 }",
    ]);
  });

  it("rebuilds what a flush has taken", async () => {
    await nftables.apply(masquerade("10.1.0.2/16", alice));
    host.run("nft flush ruleset");
    await nftables.apply(masquerade("10.1.0.3/16", bob));
    expect(await nftables.skeletonState("inet")).toBe("current");
    expect(listed("masquerade4")).toBe(`10.1.0.3 comment "${bob}"`);
    expect(listed("same_subnet4")).toBe("10.1.0.0/16 . 10.1.0.0/16");
  });

  it("rebuilds a set that somebody has deleted", async () => {
    await nftables.apply(masquerade("10.1.0.2/16", alice));
    host.run(
      "nft flush chain inet netctl postrouting; nft flush chain inet netctl masquerade_from4; nft flush chain inet netctl hairpin_to4; nft delete set inet netctl same_subnet4",
    );
    await nftables.apply(masquerade("10.1.0.3/16", bob));
    expect(await nftables.skeletonState("inet")).toBe("current");
    expect(listed("same_subnet4")).toBe("10.1.0.0/16 . 10.1.0.0/16");
  });

  it("replaces another version's rules and keeps the elements", async () => {
    await nftables.apply(masquerade("10.1.0.2/16", alice));
    host.run(`
      nft flush map inet netctl skeleton
      nft add element inet netctl skeleton '{ 0 : 0xffff }'
      nft add rule inet netctl postrouting counter comment '"of another version"'`);
    expect(await nftables.skeletonState("inet")).toBe("outdated");
    await nftables.apply(masquerade("10.1.0.3/16", bob));
    expect(await nftables.skeletonState("inet")).toBe("current");
    expect(host.run("nft list chain inet netctl postrouting")).not.toContain("of another version");
    const owners = (await nftables.list("masquerade4")).map(({ owner }) => owner?.containerId);
    expect(new Set(owners)).toEqual(new Set(["alice", "bob"]));
  });

  it("lets the larger of overlapping subnets stand for both, in either order", async () => {
    for (const [first, second] of [
      ["10.1.0.2/24", "10.1.0.3/16"],
      ["10.2.0.2/16", "10.2.0.3/24"],
      ["10.3.255.2/24", "10.3.0.3/16"],
    ] as const) {
      await nftables.apply(masquerade(first, alice));
      await nftables.apply(masquerade(second, bob));
      expect(await nftables.differences([...masquerade(first, alice), ...masquerade(second, bob)])).toEqual(
        [],
      );
    }
    expect(listed("same_subnet4").split(", ")).toEqual(
      ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"].map((subnet) => `${subnet} . ${subnet}`),
    );
  });

  it("joins many attachments in one transaction, overlapping subnets included", async () => {
    const operations = Array.from({ length: 1000 }, (_, index) => {
      const address = `10.${index >> 8}.${index & 255}.7/${index % 2 === 0 ? 8 : 16}`;
      return masquerade(address, ownerTag("net", `c${index}`, "eth0"));
    }).flat();
    await nftables.apply(operations);
    expect(await nftables.list("masquerade4")).toHaveLength(1000);
    expect(listed("same_subnet4")).toBe("10.0.0.0/8 . 10.0.0.0/8");
    await nftables.remove(
      operations.flatMap((operation) =>
        operation.owner ? [{ ref: operation, owner: operation.owner }] : [],
      ),
    );
    expect(listed("masquerade4")).toBe("");
  });

  it("bears a range of another hand in a set of ours", async () => {
    await nftables.load("inet");
    host.run("nft add element inet netctl same_subnet4 '{ 10.1.0.0-10.1.0.6 . 10.1.0.0-10.1.255.255 }'");
    expect(await nftables.list("sameSubnet4")).toEqual([]);
    expect(await nftables.nft.listElements("sameSubnet4")).toEqual([]);
    await nftables.apply(masquerade("10.2.0.2/16"));
    expect((await nftables.list("sameSubnet4")).map(({ key: [subnet] }) => subnet)).toEqual([
      parseCidr("10.2.0.0/16"),
    ]);
  });

  it("says what it could not do where the namespace is gone", async () => {
    const gone = new Nftables({ namespacePath: "/run/netns/netctl-test-never-was" });
    await expect(gone.apply(masquerade("10.1.0.2/16"))).rejects.toThrow("netctl-test-never-was");
  });
});

describe("removeOwned", () => {
  it("removes the owner's elements and leaves the shared ones", async () => {
    await nftables.apply(masquerade("10.1.0.2/16"));
    await nftables.removeOwned(masqueradeRefs([parseCidr("10.1.0.2/16")]), alice);
    expect(listed("masquerade4")).toBe("");
    expect(listed("same_subnet4")).toBe("10.1.0.0/16 . 10.1.0.0/16");
  });

  it("leaves an element that is somebody else's by now, or was never ours", async () => {
    await nftables.apply([...masquerade("10.1.0.2/16", bob), ...masquerade("10.1.0.3/16", alice)]);
    host.run("nft add element inet netctl masquerade4 '{ 10.1.0.4 }'");
    const refs = ["10.1.0.2/16", "10.1.0.3/16", "10.1.0.4/16", "10.1.0.5/16"].map(parseCidr);
    await nftables.removeOwned(masqueradeRefs(refs), alice);
    const left = (await nftables.nft.listElements("masquerade4")).map(({ key, comment }) => [key, comment]);
    expect(left).toEqual([
      [[parseIp("10.1.0.2")], bob],
      [[parseIp("10.1.0.4")], ""],
    ]);
  });

  it("is fine where nothing is left: no element, no table", async () => {
    const refs = masqueradeRefs([parseCidr("10.1.0.2/16"), parseCidr("fd00::2/64")]);
    await nftables.removeOwned(refs, alice);
    expect(host.run("nft list ruleset")).toBe("");
    await nftables.apply(masquerade("10.1.0.3/16", bob));
    await nftables.removeOwned(refs, alice);
    await nftables.removeOwned(refs, alice);
    expect(listed("masquerade4")).toContain("10.1.0.3");
  });
});

describe("several writers", () => {
  it("lose and leave over nothing", async () => {
    const writers = Array.from({ length: 4 }, () => new Nftables({ namespacePath: host.path }));
    try {
      await Promise.all(
        writers.map(async (writer, w) => {
          for (let round = 0; round < 25; round++) {
            const address = `10.1.${w}.${round}/16`;
            const owner = ownerTag("net", `w${w}r${round}`, "eth0");
            await writer.apply(masquerade(address, owner));
            if (round % 2 === 1) await writer.removeOwned(masqueradeRefs([parseCidr(address)]), owner);
          }
        }),
      );
    } finally {
      for (const writer of writers) writer.close();
    }
    const left = (await nftables.list("masquerade4")).map(({ owner }) => owner?.containerId ?? "");
    expect(left.sort()).toEqual(
      [0, 1, 2, 3].flatMap((w) => Array.from({ length: 13 }, (_, index) => `w${w}r${index * 2}`)).sort(),
    );
  });

  it("never remove what was handed on while they looked", async () => {
    const other = new Nftables({ namespacePath: host.path });
    try {
      for (let round = 0; round < 200; round++) {
        await nftables.apply(masquerade("10.1.0.2/16", alice));
        // The other's commit runs on a thread, so that it falls between our look and our own commit now and then.
        await Promise.all([
          other.apply(masquerade("10.1.0.2/16", bob)),
          nftables.removeOwned(masqueradeRefs([parseCidr("10.1.0.2/16")]), alice),
        ]);
        expect((await nftables.read({ set: "masquerade4", key: [parseIp("10.1.0.2")] }))?.comment).toBe(bob);
      }
    } finally {
      other.close();
    }
  });

  it("do not starve beside nft that keeps committing", async () => {
    await nftables.load("inet");
    let rounds = 0;
    const foreign = { done: false };
    await Promise.all([
      host.runAsync("for i in $(seq 30); do nft add table inet foreign$i; done").finally(() => {
        foreign.done = true;
      }),
      (async () => {
        for (; !foreign.done; rounds++) {
          await nftables.apply(masquerade("10.1.0.2/16", alice));
          await nftables.removeOwned(masqueradeRefs([parseCidr("10.1.0.2/16")]), alice);
        }
      })(),
    ]);
    expect(rounds).toBeGreaterThan(0);
    expect(listed("masquerade4")).toBe("");
    expect(host.run("nft list tables | grep -c foreign").trim()).toBe("30");
  });

  it("load the skeleton at the same time", async () => {
    const writers = Array.from({ length: 3 }, () => new Nftables({ namespacePath: host.path }));
    await Promise.all(
      writers.map((writer, index) => writer.apply(masquerade(`10.1.0.${index + 2}/16`, alice))),
    );
    for (const writer of writers) writer.close();
    expect(await nftables.skeletonState("inet")).toBe("current");
    expect(await nftables.list("masquerade4")).toHaveLength(3);
  });
});

describe("differences", () => {
  it("names what is missing and what is another's", async () => {
    const wanted: readonly Operation[] = [
      ...masquerade("10.1.0.2/16", alice),
      ...masquerade("10.1.0.3/16", alice),
    ];
    expect((await nftables.differences(wanted)).map(({ message }) => message)).toEqual([
      "same_subnet4 { 10.1.0.0/16 . 10.1.0.0/16 } is missing",
      "masquerade4 { 10.1.0.2 } is missing",
      "same_subnet4 { 10.1.0.0/16 . 10.1.0.0/16 } is missing",
      "masquerade4 { 10.1.0.3 } is missing",
    ]);
    await nftables.apply(wanted);
    expect(await nftables.differences(wanted)).toEqual([]);
    await nftables.apply(masquerade("10.1.0.3/16", bob));
    expect((await nftables.differences(wanted)).map(({ message }) => message)).toEqual([
      'masquerade4 { 10.1.0.3 } belongs to container "bob"',
    ]);
  });
});

describe("skeletonState", () => {
  it("tells a missing, a damaged and a good skeleton apart", async () => {
    expect(await nftables.skeletonState("inet")).toBe("missing");
    await nftables.load("inet");
    expect(await nftables.skeletonState("inet")).toBe("current");
    host.run("nft flush table inet netctl");
    expect(await nftables.skeletonState("inet")).toBe("damaged");
    await nftables.load("inet");
    expect(await nftables.skeletonState("inet")).toBe("current");
    host.run("nft add rule inet netctl postrouting accept");
    expect(await nftables.skeletonState("inet")).toBe("extended");
    await nftables.load("inet");
    host.run("nft add table inet netctl '{ flags dormant; }'");
    expect(await nftables.skeletonState("inet")).toBe("damaged");
  });

  it("holds for the bridge table too, which can be loaded again and again", async () => {
    await nftables.load("bridge");
    await nftables.load("bridge");
    expect(await nftables.skeletonState("bridge")).toBe("current");
  });
});

describe("retainSubnets", () => {
  it("removes the subnets of networks that are gone, and no other element", async () => {
    await nftables.apply(
      ["10.1.0.2/16", "10.2.0.2/16", "10.3.0.0/16", "fd00::2/64", "fd01::2/64"].flatMap((each) =>
        masquerade(each),
      ),
    );
    await nftables.retainSubnets(() => [
      parseCidr("10.2.0.0/16"),
      parseCidr("fd01::/64"),
      parseCidr("192.0.2.0/24"),
    ]);
    expect(listed("same_subnet4")).toBe("10.2.0.0/16 . 10.2.0.0/16");
    expect(listed("same_subnet6")).toBe("fd01::/64 . fd01::/64");
    expect(await nftables.list("masquerade4")).toHaveLength(3);
  });

  it("keeps the subnet that stands for a smaller one", async () => {
    await nftables.apply(masquerade("10.1.0.2/16"));
    await nftables.retainSubnets(() => [parseCidr("10.1.7.0/24")]);
    expect(listed("same_subnet4")).toBe("10.1.0.0/16 . 10.1.0.0/16");
  });

  it("keeps all where nobody knows what is in use", async () => {
    await nftables.apply(masquerade("10.1.0.2/16"));
    await nftables.retainSubnets(() => undefined);
    expect(listed("same_subnet4")).toBe("10.1.0.0/16 . 10.1.0.0/16");
  });

  it("asks again when another process has added elements meanwhile", async () => {
    await nftables.apply(masquerade("10.1.0.2/16"));
    const inUse: Cidr[] = [];
    await nftables.retainSubnets(() => {
      const known = [...inUse];
      if (inUse.length === 0) {
        inUse.push(parseCidr("10.1.0.0/16"));
        host.run("nft add element inet netctl masquerade4 '{ 10.1.0.3 }'");
      }
      return known;
    });
    expect(listed("same_subnet4")).toBe("10.1.0.0/16 . 10.1.0.0/16");
  });
});

describe("removeOwned", () => {
  it("asks nobody where there is nothing to remove, as on a kernel without nf_tables", async () => {
    using nowhere = new Nftables({ namespacePath: "/nonexistent" });
    await expect(nowhere.removeOwned([], alice)).resolves.toBeUndefined();
  });
});

describe("every set", () => {
  it("reads the same over netlink as over nft -j", async () => {
    const port = parseIfName("veth0123abcd");
    await nftables.apply([
      ...masquerade("10.1.0.2/20"),
      ...masquerade("2001:db8::ff:2/63"),
      ...macSpoofElements({ port, mac: parseMac("02:00:5e:10:00:ff"), owner: alice }),
    ]);
    for (const set of [
      "masquerade4",
      "masquerade6",
      "sameSubnet4",
      "sameSubnet6",
      "macChecked",
      "macAllowed",
      "skeletonInet",
    ] as const) {
      const overNetlink = (await nftables.list(set)).map(({ key, value, comment }) => ({
        key,
        value,
        comment,
      }));
      const overJson = (await nftables.nft.listElements(set)).map(({ key, value, comment }) => ({
        key,
        value,
        comment,
      }));
      expect(overNetlink).toEqual(overJson);
      expect(overNetlink).toHaveLength(1);
    }
  });
});

describe("usable", () => {
  it("says nothing where nft and the kernel are ready", async () => {
    await nftables.usable();
    expect(host.run("nft list ruleset")).toBe("");
  });

  it("names the program that is missing, and where it was looked for", async () => {
    const empty = mkdtempSync(join(tmpdir(), "netctl-empty-"));
    try {
      await expect(nftables.nft.find()).resolves.toMatch(/\/nft$/u);
      expect(() => findProgram("netctl-no-such-program", empty)).toThrow(
        `Cannot find the program netctl-no-such-program in ${empty}:/usr/sbin`,
      );
    } finally {
      rmSync(empty, { recursive: true });
    }
  });

  it("says so where the kernel refuses", async () => {
    const gone = new Nftables({ namespacePath: "/run/netns/netctl-test-never-was" });
    await expect(gone.usable()).rejects.toThrow("Cannot use nftables: the kernel refuses nf_tables");
  });
});

describe("skeletonText", () => {
  it("keeps elements when it is loaded by hand", async () => {
    await nftables.apply(masquerade("10.1.0.2/16"));
    await nftables.nft.run(skeletonText("inet", new Set()));
    expect(listed("masquerade4")).toContain("10.1.0.2");
  });
});
