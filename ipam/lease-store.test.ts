import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { emptyTrash } from "#machine/trash.ts";
import { parseCidr } from "#net/cidr.ts";
import { formatIp, parseIp } from "#net/ip.ts";
import type { LeaseOwner } from "./lease-owner.ts";
import { LeaseStore } from "./lease-store.ts";
import { completeRangeSet, type RangeSet } from "./range.ts";

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "netctl-leases-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const network = "net1";
const boot1 = "11111111-1111-1111-1111-111111111111";
const boot2 = "22222222-2222-2222-2222-222222222222";
const set = (subnet: string) => completeRangeSet([{ subnet: parseCidr(subnet) }]);
const v4 = set("10.1.0.0/29");
const v6 = set("fd00::/64");
const owner = (containerId: string, ifName = "eth0"): LeaseOwner => ({ containerId, ifName });
const netns = (ino: number) => ({ path: "/run/netns/a b", dev: 4, ino });

const store = (bootId = boot1) => new LeaseStore({ dataDir, network, bootId });

interface Ask {
  readonly sets?: readonly RangeSet[];
  readonly ino?: number;
  readonly requested?: readonly string[];
  readonly bootId?: string;
}

async function allocate(who: LeaseOwner, ask: Ask = {}): Promise<string[]> {
  const { sets = [v4], ino = 100, requested = [], bootId } = ask;
  const leases = await store(bootId).allocate({
    owner: who,
    netns: netns(ino),
    sets,
    requested: requested.map((text) => parseIp(text)),
  });
  return leases.map(({ address }) => formatIp(address.address));
}

/** The lease files as the reference sees them: name to content. */
function leaseFiles(): Record<string, string> {
  const directory = join(dataDir, network);
  const names = readdirSync(directory).filter(
    (name) => name !== "lock" && !name.startsWith("last_reserved_ip"),
  );
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(directory, name), "utf8")]));
}

const leaseFile = (name: string) => join(dataDir, network, name);

describe("allocate()", () => {
  test("gives the addresses in turn, and a freed one as late as can be", async () => {
    expect(await allocate(owner("a"))).toEqual(["10.1.0.2"]);
    expect(await allocate(owner("b"))).toEqual(["10.1.0.3"]);
    await store().release(owner("a"));
    expect(await allocate(owner("c"))).toEqual(["10.1.0.4"]);
    expect(await allocate(owner("d"))).toEqual(["10.1.0.5"]);
    expect(await allocate(owner("e"))).toEqual(["10.1.0.6"]);
    expect(await allocate(owner("f"))).toEqual(["10.1.0.2"]);
  });

  test("writes the reference's format, and nothing else into its directory", async () => {
    await allocate(owner("a"), { sets: [v4, v6] });
    expect(leaseFiles()).toEqual({ "10.1.0.2": "a\r\neth0", "fd00::2": "a\r\neth0" });
    expect(readFileSync(leaseFile("last_reserved_ip.0"), "utf8")).toBe("10.1.0.2");
    expect(readFileSync(leaseFile("last_reserved_ip.1"), "utf8")).toBe("fd00::2");
    expect(statSync(leaseFile("10.1.0.2")).mode & 0o777).toBe(0o600);
    expect(statSync(join(dataDir, network)).mode & 0o777).toBe(0o755);
  });

  test("writes a shorter last address over a longer one", async () => {
    await allocate(owner("a"), { requested: ["10.1.0.6"] });
    writeFileSync(leaseFile("last_reserved_ip.0"), "10.1.0.600000000");
    expect(await allocate(owner("b"))).toEqual(["10.1.0.2"]);
    expect(readFileSync(leaseFile("last_reserved_ip.0"), "utf8")).toBe("10.1.0.2");
  });

  test("returns prefix length and gateway of the subnet", async () => {
    const [lease] = await store().allocate({ owner: owner("a"), sets: [v4], requested: [] });
    expect(lease).toEqual({ address: parseCidr("10.1.0.2/29"), gateway: parseIp("10.1.0.1") });
  });

  test("says 11 when there is none left, in the reference's words", async () => {
    for (const id of ["a", "b", "c", "d", "e"]) await allocate(owner(id));
    await expect(allocate(owner("f"))).rejects.toMatchObject({
      code: 11,
      message: "failed to allocate for range 0: no IP addresses available in range set: 10.1.0.1-10.1.0.6",
    });
    await store().release(owner("c"));
    expect(await allocate(owner("f"))).toEqual(["10.1.0.4"]);
  });

  test("gives nothing at all if one set has none", async () => {
    for (const id of ["a", "b", "c", "d", "e"]) await allocate(owner(id));
    const before = leaseFiles();
    await expect(allocate(owner("f"), { sets: [v6, v4] })).rejects.toMatchObject({
      message: "failed to allocate for range 1: no IP addresses available in range set: 10.1.0.1-10.1.0.6",
    });
    expect(leaseFiles()).toEqual(before);
  });

  test("finds the one free address of a crowded subnet", async () => {
    const crowded = set("10.1.0.0/22");
    await allocate(owner("first"), { sets: [crowded], requested: ["10.1.0.2"] });
    for (let index = 3; index < 1023; index++) {
      if (index !== 700)
        writeFileSync(leaseFile(`10.1.${index >> 8}.${index & 255}`), `other${index}\r\neth0`);
    }
    expect(await allocate(owner("a"), { sets: [crowded] })).toEqual(["10.1.2.188"]);
    await expect(allocate(owner("b"), { sets: [crowded] })).rejects.toMatchObject({ code: 11 });
  });

  test("does not care for the size of the subnet", async () => {
    const sets = [set("11.0.0.0/8"), set("fd00::/64"), set("fc00::/8")];
    expect(await allocate(owner("a"), { sets })).toEqual(["11.0.0.2", "fd00::2", "fc00::2"]);
  });
});

describe("allocate() of a requested address", () => {
  test("gives it, each set its own", async () => {
    expect(await allocate(owner("a"), { sets: [v4, v6], requested: ["fd00::77", "10.1.0.5"] })).toEqual([
      "10.1.0.5",
      "fd00::77",
    ]);
  });

  test.each([
    ["10.1.0.1", 7, "failed to allocate for range 0: requested ip 10.1.0.1 is subnet's gateway"],
    ["10.9.9.9", 7, "failed to allocate all requested IPs: 10.9.9.9"],
  ])("refuses %s", async (requested, code, message) => {
    await expect(allocate(owner("a"), { requested: [requested] })).rejects.toMatchObject({ code, message });
    expect(leaseFiles()).toEqual({});
  });

  test("refuses one that is taken, and says by whom", async () => {
    await allocate(owner("a"), { requested: ["10.1.0.5"] });
    await expect(allocate(owner("b"), { requested: ["10.1.0.5"] })).rejects.toMatchObject({
      code: 11,
      message:
        "failed to allocate for range 0: requested IP address 10.1.0.5 is not available in range set 10.1.0.1-10.1.0.6",
      details: "10.1.0.5 is held by container a, interface eth0",
    });
    expect(leaseFiles()).toEqual({ "10.1.0.5": "a\r\neth0" });
  });

  test("is no duplicate of an address that the owner has", async () => {
    await allocate(owner("a"));
    await allocate(owner("a"), { requested: ["10.1.0.5"] });
    expect(Object.keys(leaseFiles())).toEqual(["10.1.0.2", "10.1.0.5"]);
    await store().release(owner("a"));
    expect(leaseFiles()).toEqual({});
  });
});

describe("a second allocate() for one attachment", () => {
  test("is refused while its namespace is the same", async () => {
    await allocate(owner("a"));
    await expect(allocate(owner("a"))).rejects.toMatchObject({
      message:
        "failed to allocate for range 0: 10.1.0.2 has been allocated to a, duplicate allocation is not allowed",
    });
    expect(leaseFiles()).toEqual({ "10.1.0.2": "a\r\neth0" });
  });

  test("is refused for a lease of old versions, which has the container's id alone", async () => {
    await allocate(owner("b"));
    writeFileSync(leaseFile("10.1.0.5"), "a");
    await expect(allocate(owner("a"))).rejects.toMatchObject({
      message:
        "failed to allocate for range 0: 10.1.0.5 has been allocated to a, duplicate allocation is not allowed",
    });
  });

  test("takes the address over for another namespace", async () => {
    await allocate(owner("a"), { ino: 100 });
    expect(await allocate(owner("a"), { ino: 200 })).toEqual(["10.1.0.2"]);
    expect(await allocate(owner("b"))).toEqual(["10.1.0.3"]);
    await expect(allocate(owner("a"), { ino: 200 })).rejects.toThrow("duplicate allocation");
  });

  test("takes it over for a namespace with the same number that is found elsewhere", async () => {
    const { dev, ino } = statSync("/proc/self/ns/net");
    const ask = (path: string) =>
      store().allocate({ owner: owner("a"), netns: { path, dev, ino }, sets: [v4], requested: [] });
    const gone = join(dataDir, "gone");
    symlinkSync("/proc/self/ns/net", gone);
    await ask(gone);
    await expect(ask("/proc/self/ns/net")).rejects.toThrow("duplicate allocation");
    unlinkSync(gone);
    expect(await ask("/proc/self/ns/net")).toMatchObject([{ address: parseCidr("10.1.0.2/29") }]);
  });

  test("takes it over after a reboot, even though the namespace has the same number", async () => {
    await allocate(owner("a"), { ino: 100 });
    expect(await allocate(owner("a"), { ino: 100, bootId: boot2 })).toEqual(["10.1.0.2"]);
    await expect(allocate(owner("a"), { ino: 100, bootId: boot2 })).rejects.toThrow("duplicate allocation");
  });

  test("gives up what the ranges do not have any more", async () => {
    await allocate(owner("a"), { ino: 100 });
    expect(await allocate(owner("a"), { ino: 200, sets: [set("10.2.0.0/24")] })).toEqual(["10.2.0.2"]);
    expect(Object.keys(leaseFiles())).toEqual(["10.2.0.2"]);
  });

  test("is none for another interface of the same container", async () => {
    expect(await allocate(owner("a", "eth0"))).toEqual(["10.1.0.2"]);
    expect(await allocate(owner("a", "eth1"))).toEqual(["10.1.0.3"]);
    await store().release(owner("a", "eth0"));
    expect(Object.keys(leaseFiles())).toEqual(["10.1.0.3"]);
  });

  test("is refused for an address that somebody else has recorded", async () => {
    await allocate(owner("b"));
    writeFileSync(leaseFile("10.1.0.4"), "a\r\neth0");
    await expect(allocate(owner("a"))).rejects.toThrow("10.1.0.4 has been allocated to a");
  });
});

describe("after a reboot", () => {
  test("the addresses of the boot before can be given out again", async () => {
    for (const id of ["a", "b", "c", "d", "e"]) await allocate(owner(id));
    const given = [];
    for (const id of ["f", "g", "h", "i", "j"]) given.push(...(await allocate(owner(id), { bootId: boot2 })));
    expect(given.toSorted()).toEqual(["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]);
    await expect(allocate(owner("k"), { bootId: boot2 })).rejects.toMatchObject({ code: 11 });
  });

  test("those that nobody has taken yet stay with their owner", async () => {
    await allocate(owner("a"));
    expect(await allocate(owner("b"), { bootId: boot2 })).toEqual(["10.1.0.3"]);
    expect(leaseFiles()["10.1.0.2"]).toBe("a\r\neth0");
    await store(boot2).release(owner("a"));
    expect(Object.keys(leaseFiles())).toEqual(["10.1.0.3"]);
  });

  test("one can be had by asking for it", async () => {
    await allocate(owner("a"), { sets: [v4, v6] });
    expect(await allocate(owner("b"), { requested: ["10.1.0.2"], bootId: boot2 })).toEqual(["10.1.0.2"]);
    await store(boot2).release(owner("a"));
    expect(leaseFiles()).toEqual({ "10.1.0.2": "b\r\neth0" });
  });

  test("both addresses of a container that had two are free", async () => {
    const pair = [set("10.1.0.0/30"), set("10.2.0.0/30")];
    await allocate(owner("a"), { sets: pair });
    await allocate(owner("b"), { sets: pair, bootId: boot2 });
    expect(leaseFiles()).toEqual({ "10.1.0.2": "b\r\neth0", "10.2.0.2": "b\r\neth0" });
    const left = readdirSync(join(dataDir, ".netctl", network));
    expect(left).not.toContain("earlier");
  });

  test("what somebody else gave out stays taken", async () => {
    await allocate(owner("a"), { requested: ["10.1.0.6"] });
    writeFileSync(leaseFile("10.1.0.2"), "go\r\neth0");
    expect(await allocate(owner("b"), { bootId: boot2 })).toEqual(["10.1.0.3"]);
  });
});

describe("a file that a power loss has left without content", () => {
  test.each(["", "\0\0\0\0", "  \n"])("counts as free: %j", async (content) => {
    for (const id of ["a", "b", "c", "d"]) await allocate(owner(id));
    writeFileSync(leaseFile("10.1.0.6"), content);
    expect(await allocate(owner("e"))).toEqual(["10.1.0.6"]);
  });

  test("counts as free where a lease of ours was emptied and the machine has rebooted", async () => {
    for (const id of ["a", "b", "c", "d", "e"]) await allocate(owner(id));
    truncateSync(leaseFile("10.1.0.4"));
    expect(await allocate(owner("f"), { bootId: boot2, requested: ["10.1.0.4"] })).toEqual(["10.1.0.4"]);
  });
});

describe("release()", () => {
  test("does nothing for who has none, and makes nothing", async () => {
    await store().release(owner("a"));
    expect(readdirSync(dataDir)).toEqual([]);
    await allocate(owner("b"));
    const before = statSync(join(dataDir, network)).mtimeMs;
    await store().release(owner("a"));
    expect(statSync(join(dataDir, network)).mtimeMs).toBe(before);
  });

  test("frees leases that somebody else has written, with and without an interface", async () => {
    await allocate(owner("a"));
    writeFileSync(leaseFile("10.1.0.3"), "go\r\neth0");
    writeFileSync(leaseFile("10.1.0.4"), "old");
    writeFileSync(leaseFile("10.1.0.5"), "go\r\neth1");
    await store().release(owner("go"));
    await store().release(owner("old", "any"));
    expect(Object.keys(leaseFiles())).toEqual(["10.1.0.2", "10.1.0.5"]);
  });

  test("leaves an address that has got another owner behind our back", async () => {
    await allocate(owner("a"));
    writeFileSync(leaseFile("10.1.0.2"), "b\r\neth0");
    await store().release(owner("a"));
    expect(leaseFiles()).toEqual({ "10.1.0.2": "b\r\neth0" });
  });

  test("works for a container id that is too long for a file name", async () => {
    const long = "x".repeat(300);
    expect(await allocate(owner(long))).toEqual(["10.1.0.2"]);
    expect(leaseFiles()).toEqual({ "10.1.0.2": `${long}\r\neth0` });
    await store().release(owner(long));
    expect(leaseFiles()).toEqual({});
  });

  test("leaves no file of ours once the disk is rid of it", async () => {
    const leases = store();
    await allocate(owner("a"), { sets: [v4, v6] });
    await leases.release(owner("a"));
    await emptyTrash();
    const left = readdirSync(join(dataDir, ".netctl"), { recursive: true, withFileTypes: true });
    expect(left.filter((entry) => !entry.isDirectory())).toEqual([]);
  });
});

describe("collect()", () => {
  test("frees all but the valid, whoever gave them out", async () => {
    for (const id of ["a", "b"]) await allocate(owner(id));
    writeFileSync(leaseFile("10.1.0.4"), "go\r\neth0");
    writeFileSync(leaseFile("10.1.0.5"), "old");
    await store().collect([
      { containerId: "b", ifName: "eth0" },
      { containerId: "a", ifName: "eth1" },
      { containerId: "old", ifName: "eth7" },
    ]);
    expect(leaseFiles()).toEqual({ "10.1.0.3": "b\r\neth0", "10.1.0.5": "old" });
    await store().collect([]);
    expect(leaseFiles()).toEqual({});
  });

  test("keeps what is valid from before a reboot", async () => {
    for (const id of ["a", "b"]) await allocate(owner(id));
    await store(boot2).collect([{ containerId: "b", ifName: "eth0" }]);
    expect(leaseFiles()).toEqual({ "10.1.0.3": "b\r\neth0" });
  });

  test("makes nothing where there is nothing", async () => {
    await store().collect([]);
    expect(readdirSync(dataDir)).toEqual([]);
  });
});

describe("checkRoom()", () => {
  test("fails with 50 when a set is used up, and not before", async () => {
    await store().checkRoom([v4]);
    for (const id of ["a", "b", "c", "d"]) await allocate(owner(id));
    await store().checkRoom([v6, v4]);
    await allocate(owner("e"));
    await expect(store().checkRoom([v6, v4])).rejects.toMatchObject({
      code: 50,
      message: "no IP addresses available in range set: 10.1.0.1-10.1.0.6",
    });
    await store().release(owner("a"));
    await store().checkRoom([v4]);
  });

  test("counts what a reboot has freed", async () => {
    for (const id of ["a", "b", "c", "d", "e"]) await allocate(owner(id));
    await store(boot2).checkRoom([v4]);
  });

  test("makes nothing", async () => {
    await store().checkRoom([v4]);
    expect(readdirSync(dataDir)).toEqual([]);
  });

  test("fails with 50 where no lease can be written", async () => {
    const blocked = new LeaseStore({ dataDir: "/proc/self/leases", network, bootId: boot1 });
    await expect(blocked.checkRoom([v4])).rejects.toMatchObject({ code: 50 });
  });
});

describe("a disk that refuses", () => {
  test("in the middle of an ADD takes everything back", async () => {
    await allocate(owner("b"), { sets: [v4, v6] });
    rmSync(leaseFile("last_reserved_ip.1"));
    mkdirSync(leaseFile("last_reserved_ip.1"));
    const before = leaseFiles();
    await expect(allocate(owner("a"), { sets: [v4, v6] })).rejects.toMatchObject({
      code: 5,
      message: expect.stringContaining(`Cannot write "${leaseFile("last_reserved_ip.1")}": EISDIR`) as string,
    });
    expect(leaseFiles()).toEqual(before);
    expect(await store().addressesOf(owner("a"))).toEqual([]);
    expect(await store().addressesOf(owner("b"))).toHaveLength(2);
  });

  test("is code 5, with the path", async () => {
    const leases = new LeaseStore({ dataDir: "/proc/self/leases", network, bootId: boot1 });
    await expect(leases.allocate({ owner: owner("a"), sets: [v4], requested: [] })).rejects.toMatchObject({
      code: 5,
      message: expect.stringContaining("/proc/self/leases") as string,
    });
    await leases.release(owner("a"));
  });
});

describe("the index", () => {
  test("is made anew where it is lost", async () => {
    await allocate(owner("a"), { sets: [v4, v6] });
    rmSync(join(dataDir, ".netctl"), { recursive: true });
    expect(await store().addressesOf(owner("a"))).toEqual([parseIp("10.1.0.2"), parseIp("fd00::2")]);
    await expect(allocate(owner("a"))).rejects.toThrow("duplicate allocation");
    await store().release(owner("a"));
    expect(leaseFiles()).toEqual({});
  });

  test("forgets what somebody else has removed", async () => {
    await allocate(owner("a"));
    await allocate(owner("b"));
    unlinkSync(leaseFile("10.1.0.2"));
    expect(await store().addressesOf(owner("a"))).toEqual([]);
    expect(await allocate(owner("a"))).toEqual(["10.1.0.4"]);
  });

  test("survives the removal of the leases' directory", async () => {
    await allocate(owner("a"));
    rmSync(join(dataDir, network), { recursive: true });
    expect(await allocate(owner("a"))).toEqual(["10.1.0.2"]);
  });

  test("is not read by whoever reads the leases' directory", async () => {
    await allocate(owner("a"));
    expect(readdirSync(dataDir).toSorted()).toEqual([".netctl", network]);
    expect(existsSync(join(dataDir, network, ".netctl"))).toBe(false);
  });

  test("agrees with the leases after any history", async () => {
    const ids = ["a", "b", "c", "d", "e", "f"];
    const step = fc.oneof(
      fc.record({
        kind: fc.constant("add" as const),
        id: fc.constantFrom(...ids),
        ino: fc.integer({ min: 1, max: 2 }),
      }),
      fc.record({ kind: fc.constant("del" as const), id: fc.constantFrom(...ids) }),
      fc.record({
        kind: fc.constant("foreign" as const),
        id: fc.constantFrom(...ids),
        host: fc.integer({ min: 2, max: 6 }),
      }),
      fc.record({ kind: fc.constant("foreign-del" as const), host: fc.integer({ min: 2, max: 6 }) }),
      fc.record({ kind: fc.constant("reboot" as const) }),
      fc.record({ kind: fc.constant("gc" as const), valid: fc.subarray(ids) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        rmSync(dataDir, { recursive: true, force: true });
        mkdirSync(join(dataDir, network), { recursive: true });
        let boot = 1;
        for (const each of steps) {
          const bootId = `boot-number-${boot}`;
          const before = leaseFiles();
          switch (each.kind) {
            case "add": {
              const given = await allocate(owner(each.id), { ino: each.ino, bootId }).catch(() => []);
              for (const ip of given) {
                expect(leaseFiles()[ip]).toBe(`${each.id}\r\neth0`);
                expect(["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]).toContain(ip);
              }
              break;
            }
            case "del":
              await store(bootId).release(owner(each.id));
              expect(Object.values(leaseFiles())).not.toContain(`${each.id}\r\neth0`);
              break;
            case "foreign":
              if (!before[`10.1.0.${each.host}`])
                writeFileSync(leaseFile(`10.1.0.${each.host}`), `${each.id}\r\neth0`);
              break;
            case "foreign-del":
              rmSync(leaseFile(`10.1.0.${each.host}`), { force: true });
              break;
            case "reboot":
              boot++;
              break;
            case "gc":
              await store(bootId).collect(each.valid.map((containerId) => ({ containerId, ifName: "eth0" })));
              for (const text of Object.values(leaseFiles()))
                expect(each.valid).toContain(text.split("\r\n")[0]);
              break;
          }
          for (const id of ids) {
            const mine = Object.entries(leaseFiles()).filter(([, text]) => text === `${id}\r\neth0`);
            const known = await store(bootId).addressesOf(owner(id));
            expect(known.map((ip) => formatIp(ip)).toSorted()).toEqual(mine.map(([ip]) => ip).toSorted());
          }
        }
      }),
      { numRuns: 40 },
    );
  });
});

test("where no directory can be, nobody has a lease to take back", async () => {
  const file = join(dataDir, "file");
  writeFileSync(file, "");
  const nowhere = new LeaseStore({ dataDir: file, network, bootId: boot1 });
  await expect(nowhere.release(owner("a"))).resolves.toBeUndefined();
  await expect(nowhere.allocate({ owner: owner("a"), sets: [v4], requested: [] })).rejects.toMatchObject({
    code: 5,
    message: expect.stringContaining(file) as string,
  });
});
