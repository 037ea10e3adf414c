import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { readBootId } from "#machine/boot-id.ts";
import { emptyTrash } from "#machine/trash.ts";
import { type BundledChild, bundleChild } from "#testing/bundled-child.ts";
import { collectRecords } from "./collect.ts";
import { Journal } from "./journal.ts";
import type { AttachmentKey, Intent } from "./record.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-journal-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const bootId = readBootId();
const open = (boot = bootId) => new Journal({ directory, bootId: boot });
const key = (containerId: string, network = "net1"): AttachmentKey => ({
  network,
  containerId,
  ifName: "eth0",
});
const intent = (containerId: string, network?: string): Intent => ({
  key: key(containerId, network),
  plugin: "bridge",
  netns: { path: "/run/netns/x", dev: 4, ino: 4026532246 },
  config: { name: "net1", bridge: "br\u00fccke0", ipam: { type: "static" } },
  args: [["IgnoreUnknown", "1"]],
  made: { hostVeth: "veth1" },
});
const fileOf = (containerId: string) => join(directory, "net1", `${containerId}:eth0:bridge`);

describe("a record", () => {
  test("holds the intent, what was amended, and the result", async () => {
    const journal = open();
    const entry = await journal.begin(intent("a"));
    expect(open().read(key("a"), "bridge")).toMatchObject({ ...intent("a"), phase: "intent", bootId });
    entry.amend({ hostVeth: "veth2" });
    expect(open().read(key("a"), "bridge")).toMatchObject({ phase: "intent", made: { hostVeth: "veth2" } });
    entry.complete({ ips: [] });
    expect(open().read(key("a"), "bridge")).toMatchObject({
      phase: "done",
      made: { hostVeth: "veth2" },
      result: { ips: [] },
      writer: { pid: process.pid },
    });
  });

  test("is for the start of a service on its own host alone, of several with one directory", async () => {
    const host = (ino: number, boot = bootId) =>
      new Journal({ directory, bootId: boot, hostNamespace: { dev: 4, ino } });
    const entry = await host(1).begin(intent("a"));
    entry.complete({ ips: [] });
    host(2).leave(key("a"), "bridge");
    expect(host(2).unfinished()).toEqual([]);
    expect(host(1).unfinished()).toHaveLength(1);
    expect(open().unfinished()).toHaveLength(1);
    // Another boot's host has gone, with all that was made there.
    expect(host(2, "another boot").unfinished()).toHaveLength(1);
  });

  test("is one per plugin, and there is no second before the first is removed", async () => {
    const journal = open();
    await journal.begin(intent("a"));
    await journal.begin({ ...intent("a"), plugin: "portmap" });
    await expect(journal.begin(intent("a"))).rejects.toMatchObject({ code: "EEXIST" });
    expect(
      journal
        .list("net1")
        .map(({ plugin }) => plugin)
        .toSorted(),
    ).toEqual(["bridge", "portmap"]);
    journal.remove(key("a"), "bridge");
    await journal.begin(intent("a"));
  });

  test("is found by its container in all networks, among others that begin like it", async () => {
    const journal = open();
    const long = "c".repeat(400);
    for (const each of [key("a"), key("a", "net2"), key("ab"), { ...key("a"), ifName: "eth1" }, key(long)]) {
      await journal.begin({ ...intent("a"), key: each, plugin: "portmap" });
    }
    await journal.begin(intent("a"));
    const found = (id: string) =>
      journal
        .listOfContainer(id, "portmap")
        .map(({ key: { network, ifName } }) => `${network} ${ifName}`)
        .toSorted();
    expect(found("a")).toEqual(["net1 eth0", "net1 eth1", "net2 eth0"]);
    expect(found(long)).toEqual(["net1 eth0"]);
    expect(found("b")).toEqual([]);
  });

  test("is found by what is known of its attachment, of one plugin", async () => {
    const journal = open();
    const long = "c".repeat(400);
    for (const id of ["a", "b", long]) await journal.begin(intent(id));
    const found = (plugin: string, id: string) =>
      journal.find(plugin, ({ containerId }) => containerId === id)?.key;
    expect(found("bridge", "b")).toEqual(key("b"));
    expect(found("bridge", long)).toEqual(key(long));
    expect(found("portmap", "b")).toBeUndefined();
    const asked: string[] = [];
    journal.find("bridge", ({ containerId }) => asked.push(containerId) < 0);
    expect(asked.toSorted()).toEqual(["a", "b", long]);
  });

  test("is gone for everybody once it is removed, and its file soon after", async () => {
    const journal = open();
    const entry = await journal.begin(intent("a"));
    entry.remove();
    expect(open().read(key("a"), "bridge")).toBeUndefined();
    expect(open().list()).toEqual([]);
    expect(() => entry.complete({})).toThrow("ENOENT");
    journal.remove(key("a"), "bridge");
    await emptyTrash();
    expect(readdirSync(join(directory, ".trash"))).toEqual([]);
  });

  test("may have a container id that is too long for a file name", async () => {
    const long = "c".repeat(400);
    const journal = open();
    await journal.begin(intent(long));
    expect(journal.read(key(long), "bridge")).toMatchObject({ phase: "intent", key: key(long) });
    expect(journal.list()).toMatchObject([{ key: key(long) }]);
    const [name = ""] = readdirSync(join(directory, "net1"));
    truncateSync(join(directory, "net1", name));
    const [torn] = journal.list();
    expect(torn).toMatchObject({ phase: "torn", plugin: "bridge" });
    if (torn) journal.remove(torn.key, torn.plugin);
    expect(journal.list()).toEqual([]);
  });

  test("reports a disk that refuses with path and code", async () => {
    const refused = new Journal({ directory: "/proc/self/journal", bootId });
    await expect(refused.begin(intent("a"))).rejects.toMatchObject({
      code: "ENOENT",
      path: "/proc/self/journal/net1/a:eth0:bridge",
      message: expect.stringContaining('Cannot write journal record "/proc/self/journal/net1/a') as string,
    });
    expect(refused.list()).toEqual([]);
    refused.remove(key("a"), "bridge");
  });
});

describe("a damaged record", () => {
  test("cut at any byte is what was whole of it", async () => {
    const journal = open();
    const entry = await journal.begin(intent("a"));
    const first = readFileSync(fileOf("a")).length;
    entry.amend({ hostVeth: "veth2" });
    const second = readFileSync(fileOf("a")).length;
    entry.complete({ ips: [] });
    const bytes = readFileSync(fileOf("a"));
    for (let length = 0; length <= bytes.length; length++) {
      writeFileSync(fileOf("a"), bytes.subarray(0, length));
      const record = journal.read(key("a"), "bridge");
      if (length < first) expect(record).toEqual({ phase: "torn", key: key("a"), plugin: "bridge" });
      else if (length < second)
        expect(record).toMatchObject({ phase: "intent", made: { hostVeth: "veth1" } });
      else if (length < bytes.length)
        expect(record).toMatchObject({ phase: "intent", made: { hostVeth: "veth2" } });
      else expect(record).toMatchObject({ phase: "done", made: { hostVeth: "veth2" } });
    }
  });

  test("with any byte of the intent changed is torn", async () => {
    const journal = open();
    await journal.begin(intent("a"));
    const bytes = readFileSync(fileOf("a"));
    for (let index = 0; index < bytes.length; index++) {
      const damaged = Buffer.from(bytes);
      damaged[index] = (damaged[index] ?? 0) ^ 0x04;
      writeFileSync(fileOf("a"), damaged);
      expect(journal.read(key("a"), "bridge")?.phase).toBe("torn");
    }
  });

  test("goes on after a line that was not written to its end", async () => {
    const entry = await open().begin(intent("a"));
    appendFileSync(fileOf("a"), '\n12345678 {"made":{"hostV');
    entry.complete({ ips: [] });
    expect(open().read(key("a"), "bridge")).toMatchObject({ phase: "done", made: { hostVeth: "veth1" } });
  });

  test("of an attachment that a DEL has begun to remove says so, to the start of a service as well", async () => {
    const entry = await open().begin(intent("a"));
    entry.complete({ ips: [] });
    expect(open().unfinished()).toEqual([]);
    open().leave(key("a"), "bridge");
    expect(open().read(key("a"), "bridge")).toMatchObject({ phase: "leaving", made: { hostVeth: "veth1" } });
    expect(open().unfinished()).toMatchObject([{ key: key("a") }]);
    open().leave(key("b"), "bridge");
    expect(open().list()).toHaveLength(1);
  });

  test("is listed by its name, and can be removed", async () => {
    mkdirSync(join(directory, "net1"));
    writeFileSync(fileOf("empty"), "");
    writeFileSync(fileOf("zeros"), Buffer.alloc(4096));
    writeFileSync(fileOf("garbage"), "\u00ff\nnot json\n");
    const journal = open();
    const torn = journal.list("net1");
    expect(torn.map(({ phase, key: { containerId } }) => `${phase} ${containerId}`).toSorted()).toEqual([
      "torn empty",
      "torn garbage",
      "torn zeros",
    ]);
    for (const record of torn) journal.remove(record.key, record.plugin);
    expect(journal.list()).toEqual([]);
  });

  test("that is a copy of another one says nothing", async () => {
    await open().begin(intent("a"));
    copyFileSync(fileOf("a"), fileOf("b"));
    expect(open().read(key("b"), "bridge")?.phase).toBe("torn");
  });
});

test("says by which networks a container has an interface, and which records a plugin has", async () => {
  const journal = open();
  const long = "c".repeat(250);
  const records: readonly (readonly [containerId: string, network: string, plugin: string])[] = [
    ["a", "net1", "bridge"],
    ["a", "net2", "portmap"],
    ["b", "net3", "bridge"],
    [long, "net4", "bridge"],
    [`${long}x`, "net5", "bridge"],
  ];
  for (const [containerId, network, plugin] of records)
    await journal.begin({ ...intent(containerId, network), plugin });
  // Nothing of what is in them is needed.
  for (const network of ["net1", "net4"])
    for (const file of readdirSync(join(directory, network)))
      writeFileSync(join(directory, network, file), "torn");
  expect(journal.networksOf("a", "eth0").toSorted()).toEqual(["net1", "net2"]);
  expect(journal.networksOf(long, "eth0")).toEqual(["net4"]);
  expect(journal.networksOf("a", "eth1")).toEqual([]);
  const networks = [...journal.eachOf("portmap")].map(({ key: { network } }) => network);
  expect(networks).toEqual(["net2"]);
});

test("files that are no records are passed over", async () => {
  const journal = open();
  await journal.begin(intent("a"));
  await journal.begin(intent("b", "net2"));
  for (const name of ["README", "a:b", "a:b:c:d", "::", ".a:eth0:bridge.swp~"]) {
    writeFileSync(join(directory, "net1", name), "x");
  }
  mkdirSync(join(directory, "net1", "x:eth0:bridge"));
  writeFileSync(join(directory, "stray"), "x");
  expect(
    journal
      .list()
      .map((record) => record.key.containerId)
      .toSorted(),
  ).toEqual(["a", "b"]);
  expect(journal.networks().toSorted()).toEqual(["net1", "net2"]);
  expect(journal.list("net2")).toHaveLength(1);
  expect(journal.list("unknown")).toEqual([]);
});

test("list() sweeps what a process that died has left in the trash", async () => {
  mkdirSync(join(directory, ".trash"));
  writeFileSync(join(directory, ".trash", "1-0"), "x");
  const journal = open();
  journal.list();
  await emptyTrash();
  expect(readdirSync(join(directory, ".trash"))).toEqual([]);
});

describe("collectRecords()", () => {
  test("removes what is not valid, of this network and plugin alone, and goes on after an error", async () => {
    const journal = open();
    for (const id of ["a", "b", "c", "d"]) await journal.begin(intent(id));
    await journal.begin(intent("a", "net2"));
    await journal.begin({ ...intent("a"), plugin: "portmap" });
    const scope = { network: "net1", plugin: "bridge", valid: [{ containerId: "c", ifName: "eth0" }] };
    const collecting = collectRecords(journal, scope, async (record) => {
      if (record.key.containerId === "a") throw new Error("busy");
      journal.remove(record.key, record.plugin);
    });
    await expect(collecting).rejects.toThrow(
      'Cannot remove 1 of 3 stale attachments of network "net1": busy',
    );
    const left = journal
      .list()
      .map((record) => `${record.key.network} ${record.key.containerId} ${record.plugin}`);
    expect(left.toSorted()).toEqual(["net1 a bridge", "net1 a portmap", "net1 c bridge", "net2 a bridge"]);
  });
});

describe("with other processes", () => {
  let child: BundledChild;
  beforeAll(async () => {
    child = await bundleChild(`
      import { Journal } from "#journal/journal.ts";
      import { readBootId } from "#machine/boot-id.ts";
      const { directory, prefix, count, hold } = JSON.parse(process.argv[2]);
      async function main() {
        const journal = new Journal({ directory, bootId: readBootId() });
        for (let index = 0; index < count; index++) {
          const key = { network: "net1", containerId: prefix + index, ifName: "eth0" };
          const intent = { key, plugin: "bridge", config: { filler: "x".repeat(2000) }, args: [], made: { step: 0 } };
          const entry = await journal.begin(intent);
          entry.amend({ step: 1 });
          process.stdout.write(key.containerId + "\\n");
          if (hold) await new Promise((resolve) => setTimeout(resolve, 600_000));
          if (index % 3 === 0) entry.complete({ ips: [] });
          if (index % 3 === 1) entry.remove();
        }
      }
      void main();
    `);
  });
  afterAll(() => child.remove());

  test("several can write at once", async () => {
    const prefixes = ["a", "b", "c", "d"];
    await Promise.all(prefixes.map((prefix) => child.run(JSON.stringify({ directory, prefix, count: 30 }))));
    const records = open().list();
    expect(records).toHaveLength(4 * 20);
    expect(records.filter(({ phase }) => phase === "done")).toHaveLength(4 * 10);
  });

  test("an intent is unfinished once its writer is dead, and not before", async () => {
    const writer = child.start(JSON.stringify({ directory, prefix: "a", count: 1, hold: true }));
    const ended = new Promise((resolve) => writer.once("close", resolve));
    await new Promise((resolve) => writer.stdout?.once("data", resolve));
    await open().begin(intent("mine"));
    expect(open().unfinished()).toEqual([]);
    writer.kill("SIGKILL");
    await ended;
    expect(open().unfinished()).toMatchObject([{ key: key("a0"), made: { step: 1 } }]);
    expect(open("another boot").unfinished()).toHaveLength(2);
    writeFileSync(fileOf("torn"), "");
    expect(open().unfinished()).toHaveLength(2);
  });

  test("a writer killed at any moment leaves records that can be read, and what it said it had begun", async () => {
    for (let round = 0; round < 15; round++) {
      const prefix = `r${round}-`;
      const writer = child.start(JSON.stringify({ directory, prefix, count: 1000 }));
      let begun = "";
      writer.stdout?.on("data", (chunk: Buffer) => (begun += chunk.toString()));
      const ended = new Promise((resolve) => writer.once("close", resolve));
      await new Promise((resolve) => writer.stdout?.once("data", resolve));
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 40));
      writer.kill("SIGKILL");
      await ended;
      const names = begun.split("\n").slice(0, -1);
      const journal = open();
      const records = journal.list();
      // At most the last one was in the middle of being written.
      expect(records.filter(({ phase }) => phase === "torn").length).toBeLessThanOrEqual(1);
      for (const [index, name] of names.slice(0, -1).entries()) {
        const record = journal.read(key(name), "bridge");
        const expected = index % 3 === 0 ? "done" : index % 3 === 1 ? undefined : "intent";
        expect(record?.phase).toBe(expected);
      }
      for (const record of records) journal.remove(record.key, record.plugin);
      expect(journal.list()).toEqual([]);
      await emptyTrash();
    }
  });
});

test("hasMoreThan() counts the records of all networks", async () => {
  const journal = open();
  expect(journal.hasMoreThan(0)).toBe(false);
  await journal.begin(intent("a"));
  await journal.begin(intent("b", "net2"));
  expect([1, 2].map((count) => journal.hasMoreThan(count))).toEqual([true, false]);
});

describe("isUnchanged()", () => {
  /** The record as it is now, read; its file last written an hour ago unless `fresh`. */
  async function read(containerId: string, { fresh = false } = {}) {
    const journal = open();
    (await journal.begin(intent(containerId))).complete({});
    const hourAgo = new Date(Date.now() - 3_600_000);
    if (!fresh) utimesSync(fileOf(containerId), hourAgo, hourAgo);
    const dated = [...journal.eachDated()].find(({ path }) => path.includes(containerId));
    if (!dated) throw new Error("the record is not there");
    return {
      journal,
      date: dated.date,
      isUnchanged: () => journal.isUnchanged(key(containerId), "bridge", dated.date),
    };
  }

  test("is true of a record that nobody has touched, false where a DEL has begun", async () => {
    const { journal, isUnchanged } = await read("a");
    expect(isUnchanged()).toBe(true);
    journal.leave(key("a"), "bridge");
    expect(isUnchanged()).toBe(false);
  });

  test("is false of a record that is gone, and of the one that has come after it", async () => {
    const { journal, isUnchanged } = await read("a");
    journal.remove(key("a"), "bridge");
    expect(isUnchanged()).toBe(false);
    (await journal.begin(intent("a"))).complete({});
    expect(isUnchanged()).toBe(false);
  });

  test("is false where it can't be told: the record had just been written", async () => {
    expect((await read("a", { fresh: true })).isUnchanged()).toBe(false);
  });
});
