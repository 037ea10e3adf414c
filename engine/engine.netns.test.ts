import { appendFileSync, mkdtempSync, readFileSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { TestEtcd } from "#testing/etcd.ts";
import { type KubernetesRig, kubernetesRigs } from "#testing/kubernetes-rig.ts";
import { LossyLink } from "#testing/lossy-link.ts";
import { type Feature, testWith } from "#testing/requires.ts";
import type { Change, Engine } from "./engine.ts";
import { CompactedError, EngineError, RewoundError } from "./error.ts";
import { EtcdEngine } from "./etcd/etcd.ts";
import { KubernetesEngine } from "./kubernetes/kubernetes.ts";
import { LocalEngine } from "./local.ts";

let etcd: TestEtcd;
/** Those that a test has begun. */
const rigs: KubernetesRig[] = [];
const directory = mkdtempSync(join(tmpdir(), "netctl-engine-"));
beforeAll(async () => {
  etcd = await TestEtcd.start();
});
afterAll(async () => {
  await etcd.remove();
  for (const rig of rigs) await rig.remove();
  rmSync(directory, { recursive: true });
});

/** Does it again while no member can: a cluster elects its leader when it likes. */
async function untilDone<T>(work: () => Promise<T>): Promise<T> {
  for (const deadlineMs = performance.now() + 40_000; ; await sleep(100)) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof EngineError) || performance.now() > deadlineMs) throw error;
    }
  }
}

let nextPrefix = 0;
const freshPrefix = () => `/t${nextPrefix++}/`;

async function collect(
  engine: Engine,
  prefix: string,
  from: number,
  count: number,
): Promise<readonly Change[]> {
  const stop = new AbortController();
  const seen: Change[] = [];
  for await (const { changes } of engine.watch(prefix, from, stop.signal)) {
    seen.push(...changes);
    if (seen.length >= count) break;
  }
  stop.abort();
  return seen;
}

const engines: readonly (readonly [string, readonly Feature[], () => Promise<Engine>])[] = [
  ["local", [], async () => await LocalEngine.open(join(directory, `local-${nextPrefix++}`))],
  ["etcd", [], async () => await Promise.resolve(new EtcdEngine({ endpoints: etcd.endpoints }))],
  ...kubernetesRigs.map(
    ([name, needs, start]) =>
      [
        name,
        needs,
        async () => {
          const rig = await start();
          rigs.push(rig);
          return new KubernetesEngine(rig.settings);
        },
      ] as const,
  ),
];

describe.each(engines)("%s", (_name, needs, open) => {
  const check = (name: string, body: () => Promise<void>) => testWith(needs, name, body);
  let engine: Engine;
  beforeAll(async () => {
    engine = await open();
  });
  afterAll(async () => await engine.close());

  check("a key is created once, and the second one sees whose it is", async () => {
    const key = `${freshPrefix()}block`;
    const first = await engine.commit([{ kind: "create", key, value: "h1" }]);
    expect(first.committed).toBe(true);
    const second = await engine.commit([{ kind: "create", key, value: "h2" }]);
    expect(second.committed).toBe(false);
    expect(second.committed === false && second.found.get(key)?.value).toBe("h1");
    expect(await engine.read(key)).toEqual({ key, value: "h1", revision: first.revision });
    expect(await engine.read(`${key}/no`)).toBeUndefined();
  });

  check("a key is replaced and removed only at the revision that was seen", async () => {
    const key = `${freshPrefix()}net`;
    const { revision } = await engine.commit([{ kind: "create", key, value: "a" }]);
    const next = await engine.commit([{ kind: "replace", key, revision, value: "b" }]);
    expect(next.committed).toBe(true);
    expect((await engine.commit([{ kind: "replace", key, revision, value: "c" }])).committed).toBe(false);
    expect((await engine.commit([{ kind: "remove", key, revision }])).committed).toBe(false);
    expect((await engine.commit([{ kind: "remove", key, revision: next.revision }])).committed).toBe(true);
    expect(await engine.read(key)).toBeUndefined();
  });

  check("of several steps all are done or none", async () => {
    const prefix = freshPrefix();
    const taken = await engine.commit([{ kind: "create", key: `${prefix}vni`, value: "x" }]);
    const refused = await engine.commit([
      { kind: "create", key: `${prefix}name`, value: "n" },
      { kind: "create", key: `${prefix}vni`, value: "n" },
    ]);
    expect(refused.committed).toBe(false);
    expect(await engine.read(`${prefix}name`)).toBeUndefined();
    const guarded = await engine.commit([
      { kind: "unchanged", key: `${prefix}vni`, revision: taken.revision },
      { kind: "absent", key: `${prefix}none` },
      { kind: "put", key: `${prefix}a`, value: "1" },
      { kind: "put", key: `${prefix}b`, value: "2" },
      { kind: "clear", key: `${prefix}nothing` },
    ]);
    expect(guarded.committed).toBe(true);
    const { entries } = await engine.list(prefix);
    expect(entries.map(({ key, value }) => [key.slice(prefix.length), value])).toEqual([
      ["a", "1"],
      ["b", "2"],
      ["vni", "x"],
    ]);
  });

  check("a prefix counts as empty only while nothing is below it", async () => {
    const prefix = freshPrefix();
    const empty = { kind: "empty", prefix } as const;
    expect((await engine.commit([empty])).committed).toBe(true);
    await engine.commit([{ kind: "create", key: `${prefix}one`, value: "" }]);
    expect((await engine.commit([empty])).committed).toBe(false);
  });

  check("of fifty that claim at once, one wins each block", async () => {
    const prefix = freshPrefix();
    const claim = async (host: number) => {
      for (let block = 0; ; block++) {
        const steps = [{ kind: "create", key: `${prefix}${block}`, value: `h${host}` }] as const;
        if ((await engine.commit(steps)).committed) return block;
      }
    };
    const blocks = await Promise.all(Array.from({ length: 50 }, (_, host) => claim(host)));
    expect(new Set(blocks).size).toBe(50);
  });

  check("a list of more than a page is whole, and a watch goes on from it without a gap", async () => {
    const prefix = freshPrefix();
    for (let at = 0; at < 2300; at += 100) {
      const steps = Array.from({ length: 100 }, (_, index) => {
        const key = `${prefix}${String(at + index).padStart(5, "0")}`;
        return { kind: "put", key, value: String(at + index) } as const;
      });
      await engine.commit(steps);
    }
    const { entries, revision } = await engine.list(prefix);
    expect(entries.map((entry) => entry.value)).toEqual(
      Array.from({ length: 2300 }, (_, index) => String(index)),
    );

    const changes = collect(engine, prefix, revision + 1, 3);
    await engine.commit([{ kind: "put", key: `${freshPrefix()}elsewhere`, value: "" }]);
    const added = await engine.commit([{ kind: "create", key: `${prefix}x`, value: "new" }]);
    const entry = { key: `${prefix}x`, value: "new", revision: added.revision };
    await engine.commit([{ kind: "remove", key: `${prefix}x`, revision: added.revision }]);
    const last = await engine.commit([{ kind: "put", key: `${prefix}00000`, value: "again" }]);
    expect(await changes).toEqual([
      { kind: "put", entry },
      { kind: "delete", key: `${prefix}x`, revision: added.revision + 1 },
      { kind: "put", entry: { key: `${prefix}00000`, value: "again", revision: last.revision } },
    ]);
  });

  check("what goes with a lease vanishes when it is given back", async () => {
    const prefix = freshPrefix();
    const lease = await engine.grantLease(60);
    const live = await engine.commit([{ kind: "create", key: `${prefix}live`, value: "s", lease }]);
    await engine.commit([{ kind: "create", key: `${prefix}host`, value: "h" }]);
    expect(await engine.keepAlive(lease)).toBe(true);
    const changes = collect(engine, prefix, live.revision + 2, 1);
    await engine.revokeLease(lease);
    expect(await changes).toMatchObject([{ kind: "delete", key: `${prefix}live` }]);
    expect((await engine.list(prefix)).entries.map((entry) => entry.value)).toEqual(["h"]);
    expect(await engine.keepAlive(lease)).toBe(false);
    await engine.revokeLease(lease);
  });

  check("values in other scripts, and empty ones, come back as they were", async () => {
    const prefix = freshPrefix();
    for (const [index, value] of ["", "Zürich 東京 🙂", '\u0000\n"'].entries()) {
      await engine.commit([{ kind: "create", key: `${prefix}${index}`, value }]);
      expect((await engine.read(`${prefix}${index}`))?.value).toBe(value);
    }
  });
});

describe("local", () => {
  test("everything that was answered is there after a restart, and half a line is not", async () => {
    const path = join(directory, "restart");
    const before = await LocalEngine.open(path);
    const { revision } = await before.commit([{ kind: "create", key: "a", value: "1" }]);
    const lease = await before.grantLease(60);
    await before.commit([{ kind: "create", key: "live", value: "s", lease }]);
    await before.commit([{ kind: "put", key: "b", value: "2" }]);
    // Killed in the middle of a commit: nothing is closed, and its line is half there.
    const file = join(path, "engine.jsonl");
    appendFileSync(file, '{"revision":9,"put":{"c"');
    const after = await LocalEngine.open(path);
    expect((await after.list("")).entries).toMatchObject([{ key: "a", revision }, { key: "b" }]);
    expect((await after.commit([{ kind: "create", key: "c", value: "3" }])).revision).toBe(5);
    await after.close();
    expect(readFileSync(file, "utf8")).not.toContain("live");
    const again = await LocalEngine.open(path);
    expect((await again.list("")).entries.map((entry) => entry.key)).toEqual(["a", "b", "c"]);
    await again.close();
  });

  test("a line that is damaged in the middle is said, with its number", async () => {
    const path = join(directory, "damaged");
    const engine = await LocalEngine.open(path);
    await engine.commit([{ kind: "create", key: "a", value: "1" }]);
    await engine.close();
    const file = join(path, "engine.jsonl");
    truncateSync(file, 5);
    appendFileSync(file, "\n");
    await expect(LocalEngine.open(path)).rejects.toThrow(/engine\.jsonl": line 1 is damaged/);
  });
});

describe("etcd", () => {
  test("a watch goes on after its member was killed and started again", async () => {
    const own = await TestEtcd.start();
    const engine = new EtcdEngine({ endpoints: own.endpoints });
    try {
      const { revision } = await engine.commit([{ kind: "put", key: "/w/0", value: "0" }]);
      const changes = collect(engine, "/w/", revision + 1, 2);
      await engine.commit([{ kind: "put", key: "/w/1", value: "1" }]);
      await own.kill(0);
      // "unavailable" where a connection was refused, "unknown" where one that was kept alive was cut: both are true.
      await expect(engine.commit([{ kind: "put", key: "/w/x", value: "" }])).rejects.toMatchObject({
        fault: expect.stringMatching(/^(unavailable|unknown)$/),
      });
      expect(await engine.status()).toMatchObject({
        isReadOnly: true,
        problems: [expect.stringContaining(own.endpoints[0] ?? "")],
      });
      own.spawn(0);
      await own.untilHealthy(0);
      await untilDone(() => engine.commit([{ kind: "put", key: "/w/2", value: "2" }]));
      expect((await changes).map((one) => one.kind === "put" && one.entry.value)).toEqual(["1", "2"]);
    } finally {
      await engine.close();
      await own.remove();
    }
  });

  describe("a write whose reply is lost", () => {
    let link: LossyLink;
    let engine: EtcdEngine;
    beforeEach(async () => {
      link = await LossyLink.open(etcd.endpoints[0] ?? "");
      engine = new EtcdEngine({ endpoints: [link.url], requestTimeoutMs: 20_000 });
    });
    afterEach(async () => {
      await engine.close();
      link.close();
    });

    test.each(["request", "reply"] as const)("is read back: the %s is lost once", async (what) => {
      const key = `${freshPrefix()}k`;
      const first = await engine.commit([{ kind: "create", key, value: "old" }]);
      link.lose(what, 1);
      const { revision } = first;
      const written = await engine.commit([{ kind: "replace", key, revision, value: "new" }]);
      expect(written.committed).toBe(true);
      // Done once, and said with the revision at which it was.
      expect(await engine.read(key)).toEqual({ key, value: "new", revision: written.revision });
      expect(written.revision).toBe(revision + 1);
    });

    test("is read back when another host was faster", async () => {
      const key = `${freshPrefix()}k`;
      const other = new EtcdEngine({ endpoints: etcd.endpoints });
      link.lose("request", 1, async () => {
        await other.commit([{ kind: "create", key, value: "theirs" }]);
      });
      const refused = await engine.commit([{ kind: "create", key, value: "ours" }]);
      expect(refused.committed === false && refused.found.get(key)?.value).toBe("theirs");
      await other.close();
    });

    test("is said to be unknown, when it can't be read back", async () => {
      const key = `${freshPrefix()}k`;
      link.lose("reply", Number.POSITIVE_INFINITY);
      await expect(engine.commit([{ kind: "put", key, value: "x" }])).rejects.toMatchObject({
        fault: "unknown",
      });
      link.lose("reply", 0);
      expect((await engine.read(key))?.value).toBe("x");
    });
  });

  test("a watch from before a compaction is refused with the oldest revision", async () => {
    const engine = new EtcdEngine({ endpoints: etcd.endpoints });
    const { revision } = await engine.commit([{ kind: "put", key: "/c/0", value: "0" }]);
    await engine.commit([{ kind: "put", key: "/c/0", value: "1" }]);
    const last = await engine.commit([{ kind: "put", key: "/c/0", value: "2" }]);
    await fetch(`${etcd.endpoints[0] ?? ""}/v3/kv/compaction`, {
      method: "POST",
      body: JSON.stringify({ revision: String(last.revision) }),
    });
    await expect(collect(engine, "/c/", revision, 1)).rejects.toThrow(CompactedError);
    await engine.close();
  });

  test("a watch of a store that was emptied is refused, and does not wait for ever", async () => {
    const own = await TestEtcd.start();
    const engine = new EtcdEngine({ endpoints: own.endpoints });
    try {
      for (let count = 0; count < 5; count++) await engine.commit([{ kind: "put", key: "/e/0", value: "0" }]);
      const { revision } = await engine.list("/e/");
      const changes = collect(engine, "/e/", revision + 1, 1);
      await own.kill(0);
      own.empty(0);
      own.spawn(0);
      await expect(changes).rejects.toThrow(RewoundError);
    } finally {
      await engine.close();
      await own.remove();
    }
  });

  test("a cluster that loses its leader serves on, and one without a majority says so", async () => {
    const own = await TestEtcd.start(3);
    const engine = new EtcdEngine({ endpoints: own.endpoints, requestTimeoutMs: 2000 });
    try {
      for (let index = 0; index < 2; index++) {
        // Elections take a while, and are no error of the caller's.
        await untilDone(() => engine.commit([{ kind: "put", key: `/l/${index}`, value: String(index) }]));
        await own.kill(index);
        if (index === 0)
          expect((await untilDone(() => engine.list("/l/"))).entries).toMatchObject([{ value: "0" }]);
      }
      const lost = await engine
        .commit([{ kind: "create", key: "/l/2", value: "2" }])
        .catch((error: unknown) => error);
      expect(lost).toBeInstanceOf(EngineError);
      own.spawn(0);
      await own.untilHealthy(0);
      const { entries } = await untilDone(() => engine.list("/l/"));
      const values = entries.map((entry) => entry.value);
      expect(values.slice(0, 2)).toEqual(["0", "1"]);
      // A write that the minority took may be agreed on later. Only "unknown" may say nothing about that.
      if (values.length > 2) expect(lost).toMatchObject({ fault: "unknown" });
    } finally {
      await engine.close();
      await own.remove();
    }
  });

  test("user and password are asked for, and a wrong one is said", async () => {
    const own = await TestEtcd.start();
    const call = async (path: string, body: object) =>
      await fetch(`${own.endpoints[0] ?? ""}${path}`, { method: "POST", body: JSON.stringify(body) });
    try {
      await call("/v3/auth/user/add", { name: "root", password: "secret" });
      await call("/v3/auth/role/add", { name: "root" });
      await call("/v3/auth/user/grant", { user: "root", role: "root" });
      await call("/v3/auth/enable", {});
      const open = (password?: string) =>
        new EtcdEngine({ endpoints: own.endpoints, ...(password && { user: { name: "root", password } }) });
      await expect(open("wrong").read("/a")).rejects.toMatchObject({ fault: "denied" });
      await expect(open().read("/a")).rejects.toMatchObject({ name: "EngineError" });
      const engine = open("secret");
      await engine.commit([{ kind: "create", key: "/a", value: "1" }]);
      expect(await engine.read("/a")).toMatchObject({ value: "1" });
      await engine.close();
    } finally {
      await own.remove();
    }
  });

  test.each([
    ["nothing at all", []],
    ["no URL", ["etcd:2379"]],
  ])("an endpoint that is %s is refused", (_name, endpoints) => {
    expect(() => new EtcdEngine({ endpoints })).toThrow(/endpoint/);
  });
});
