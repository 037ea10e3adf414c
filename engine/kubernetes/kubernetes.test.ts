import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Changes } from "#engine/engine.ts";
import { CompactedError, EngineError, RewoundError } from "#engine/error.ts";
import { TestKubernetesApi } from "#testing/kubernetes-api.ts";
import { type KubernetesRig, kubernetesRigs, TokenFile } from "#testing/kubernetes-rig.ts";
import { netctlNamespace } from "#testing/kubernetes-server.ts";
import { testWith } from "#testing/requires.ts";
import { KubernetesApi } from "./api.ts";
import { KubernetesEngine } from "./kubernetes.ts";
import { apiVersion, entryObject } from "./objects.ts";

describe.each(kubernetesRigs)("%s as engine", (_name, needs, start) => {
  let rig: KubernetesRig;
  let engine: KubernetesEngine;
  let nextPrefix = 0;
  let at = "";
  const open = (more: object = {}) => new KubernetesEngine({ ...rig.settings, sweepMs: 50, ...more });
  const check = (name: string, body: () => Promise<void>) => testWith(needs, name, body);
  beforeAll(async () => {
    rig = await start();
    engine = open();
  });
  afterAll(async () => {
    await engine.close();
    await rig.remove();
  });
  beforeEach(() => {
    at = `/k${nextPrefix++}`;
  });

  /** The first changes below a prefix from a revision on. */
  async function next(from: number): Promise<Changes | undefined> {
    const stop = new AbortController();
    for await (const changes of engine.watch(at, from, stop.signal)) return changes;
    return undefined;
  }

  check("a claim whose guard fell while it was made is taken back", async () => {
    const net = await engine.commit([{ kind: "create", key: `${at}/net`, value: "active" }]);
    if (!net.committed) throw new Error("not created");
    // Another host changes the network right behind the look at the guards.
    const other = open();
    const claim = engine.commit([
      { kind: "unchanged", key: `${at}/net`, revision: net.revision },
      { kind: "create", key: `${at}/block`, value: "h1" },
    ]);
    await other.commit([{ kind: "replace", key: `${at}/net`, revision: net.revision, value: "deleting" }]);
    const outcome = await claim;
    // Whichever came first: a block that is there was claimed before the network was marked.
    expect((await engine.read(`${at}/block`)) !== undefined).toBe(outcome.committed);
    await other.close();
  });

  check("of several steps that were done in order, those before a refusal are taken back", async () => {
    await engine.commit([{ kind: "create", key: `${at}/pools`, value: "1" }]);
    const other = open();
    const [first, second] = await Promise.all([
      engine.commit([
        { kind: "create", key: `${at}/vni/1`, value: "a" },
        { kind: "create", key: `${at}/net/a`, value: "a" },
      ]),
      other.commit([
        { kind: "create", key: `${at}/vni/2`, value: "b" },
        { kind: "create", key: `${at}/net/a`, value: "b" },
      ]),
    ]);
    expect([first.committed, second.committed].filter(Boolean)).toHaveLength(1);
    const left = (await engine.list(`${at}/vni/`)).entries.map(({ value }) => value);
    expect(left).toEqual([(await engine.read(`${at}/net/a`))?.value]);
    await other.close();
  });

  check("an answer that was lost is looked for, and not written twice", async () => {
    const losing = async () => open(await rig.losingAnswers(1));
    const first = await losing();
    const made = await first.commit([{ kind: "create", key: `${at}/a`, value: "1" }]);
    expect(made).toMatchObject({ committed: true });
    const second = await losing();
    const replaced = await second.commit([
      { kind: "replace", key: `${at}/a`, revision: made.revision, value: "2" },
    ]);
    // Written once: the version after the creation's, with nothing between.
    expect(replaced.committed).toBe(true);
    expect(await engine.read(`${at}/a`)).toMatchObject({ value: "2", revision: replaced.revision });
    const third = await losing();
    expect(
      await third.commit([{ kind: "remove", key: `${at}/a`, revision: replaced.revision }]),
    ).toMatchObject({ committed: true });
    expect(await engine.read(`${at}/a`)).toBeUndefined();
    for (const each of [first, second, third]) await each.close();
  });

  check(
    "a value that is written again is a new revision, of which one of two writers hears first",
    async () => {
      const { revision } = await engine.commit([{ kind: "create", key: `${at}/a`, value: "same" }]);
      const replace = { kind: "replace", key: `${at}/a`, revision, value: "same" } as const;
      const outcomes = await Promise.all([engine.commit([replace]), engine.commit([replace])]);
      expect(outcomes.filter(({ committed }) => committed)).toHaveLength(1);
      const again = (await engine.read(`${at}/a`))?.revision ?? 0;
      expect(again).toBeGreaterThan(revision);
      expect(await next(revision + 1)).toMatchObject({ revision: again });
    },
  );

  check("of an object that somebody made by hand under another name nothing is believed", async () => {
    const api = new KubernetesApi(rig.settings);
    const { metadata, ...rest } = entryObject(`${at}/a`, "forged");
    const path = `/apis/${apiVersion}/namespaces/${netctlNamespace}/entries`;
    await api.call("POST", path, { ...rest, metadata: { ...metadata, name: `by-hand-${nextPrefix}` } });
    expect(await engine.read(`${at}/a`)).toBeUndefined();
    expect((await engine.list(at)).entries).toEqual([]);
    expect(await engine.commit([{ kind: "create", key: `${at}/a`, value: "1" }])).toMatchObject({
      committed: true,
    });
    api.reconnect();
  });

  check("what is too long is refused, in a few words that name it", async () => {
    const write = engine.commit([{ kind: "create", key: `${at}/a`, value: "x".repeat(70_000) }]);
    await expect(write).rejects.toMatchObject({
      fault: "invalid",
      message: expect.stringMatching(/spec\.value/),
    });
    const { message } = (await write.catch((error: unknown) => error)) as Error;
    expect(message.length).toBeLessThan(1000);
    // Nor does it go with one in three bytes a character.
    const wide = "東".repeat(60_000);
    await engine.commit([{ kind: "create", key: `${at}/a`, value: wide }]);
    expect((await engine.read(`${at}/a`))?.value).toBe(wide);
  });

  check("another namespace than its own is denied", async () => {
    const elsewhere = open({ namespace: "kube-system" });
    await expect(elsewhere.list("/")).rejects.toMatchObject({ fault: "denied" });
    await expect(elsewhere.grantLease(60)).rejects.toMatchObject({ fault: "denied" });
    expect((await elsewhere.status()).problems).toEqual([expect.stringMatching(/forbidden/)]);
    await elsewhere.close();
  });

  check("what the server has forgotten is said, and a list and a watch from there go on", async () => {
    const { revision } = await engine.commit([{ kind: "put", key: `${at}/a`, value: "1" }]);
    await engine.commit([{ kind: "put", key: `${at}/a`, value: "2" }]);
    await rig.restart();
    await expect(next(revision)).rejects.toThrow(CompactedError);
    const { revision: now, entries } = await engine.list(at);
    expect(entries).toMatchObject([{ value: "2" }]);
    const changes = next(now + 1);
    await engine.commit([{ kind: "put", key: `${at}/a`, value: "3" }]);
    expect(await changes).toMatchObject({ changes: [{ kind: "put", entry: { value: "3" } }] });
  });

  check("a watch over a restart tells all or says that it can't", async () => {
    const { revision } = await engine.commit([{ kind: "put", key: `${at}/a`, value: "1" }]);
    const seen: string[] = [];
    const watching = (async () => {
      const stop = new AbortController();
      for await (const { changes } of engine.watch(`${at}/a`, revision + 1, stop.signal)) {
        for (const change of changes) seen.push(change.kind === "put" ? change.entry.value : "gone");
        if (seen.at(-1) === "last") return "told";
      }
      return "ended";
    })().catch((error: unknown) => {
      if (error instanceof CompactedError) return "forgotten";
      throw error;
    });
    const other = open();
    await other.commit([{ kind: "put", key: `${at}/a`, value: "a0" }]);
    await expect.poll(() => seen, { timeout: 20_000 }).toEqual(["a0"]);
    await rig.restart();
    await untilDone(() => other.commit([{ kind: "put", key: `${at}/a`, value: "a1" }]));
    await untilDone(() => other.commit([{ kind: "put", key: `${at}/a`, value: "last" }]));
    const end = await watching;
    expect([end, seen]).toEqual(end === "told" ? ["told", ["a0", "a1", "last"]] : ["forgotten", ["a0"]]);
    await other.close();
  });

  check("a version that the server has not reached yet is said: it has lost what was there", async () => {
    const { revision } = await engine.list(at);
    await expect(next(revision + 1000)).rejects.toThrow(RewoundError);
  });

  check("a list whose pages were forgotten meanwhile is begun again", async () => {
    for (let first = 0; first < 1100; first += 100)
      await Promise.all(
        Array.from({ length: 100 }, (_, index) =>
          engine.commit([{ kind: "put", key: `${at}/${first + index}`, value: "" }]),
        ),
      );
    const api = new KubernetesApi(rig.settings);
    const path = `/apis/${apiVersion}/namespaces/${netctlNamespace}/entries?limit=500`;
    const { metadata } = (await api.call("GET", path)) as {
      readonly metadata: { readonly continue: string };
    };
    await engine.commit([{ kind: "put", key: `${at}/0`, value: "changed" }]);
    await rig.compact();
    const continued = api.call("GET", `${path}&continue=${encodeURIComponent(metadata.continue)}`);
    await expect(continued).rejects.toMatchObject({ code: 410, reason: "Expired" });
    api.reconnect();
    // The same while the engine lists: it sees each of them once.
    const lists = Promise.all(Array.from({ length: 4 }, () => engine.list(at)));
    for (let round = 0; round < 5; round++) {
      await engine.commit([{ kind: "put", key: `${at}/0`, value: String(round) }]);
      await rig.compact();
    }
    for (const { entries } of await lists)
      expect(new Set(entries.map(({ key }) => key)).size).toBe(entries.length === 1100 ? 1100 : Number.NaN);
  });

  check("what goes with a lease goes when nobody has renewed it for long, by whoever sees that", async () => {
    const lease = await engine.grantLease(1);
    await engine.commit([{ kind: "create", key: `${at}/live/h1`, value: "s", lease }]);
    expect(await engine.keepAlive(lease)).toBe(true);
    const other = open();
    const own = await other.grantLease(60);
    await expect
      .poll(
        async () => {
          expect(await other.keepAlive(own)).toBe(true);
          return await other.read(`${at}/live/h1`);
        },
        { timeout: 20_000 },
      )
      .toBeUndefined();
    expect(await engine.keepAlive(lease)).toBe(false);
    await other.close();
  });

  check("the token is read again when kubelet has renewed it, and a wrong one is said", async () => {
    const first = await rig.token();
    using file = new TokenFile(first.text);
    const authorized = open({ tokenFile: file.path });
    const second = await rig.token();
    expect(await authorized.read(`${at}/a`)).toBeUndefined();
    await first.revoke();
    // The server keeps what it knows of a token for ten seconds.
    await expect
      .poll(() => authorized.read(`${at}/a`).catch((error: unknown) => error), {
        timeout: 60_000,
        interval: 500,
      })
      .toMatchObject({ fault: "denied" });
    file.write(second.text);
    expect(await authorized.read(`${at}/a`)).toBeUndefined();
    await authorized.close();
    await second.revoke();
  });

  check("a server that was restored from an old copy is not taken for the one that was watched", async () => {
    await engine.commit([{ kind: "put", key: `${at}/a`, value: "old" }]);
    const restore = await rig.copy();
    for (let index = 0; index < 300; index++)
      await engine.commit([{ kind: "put", key: `${at}/a`, value: String(index) }]);
    const { revision } = await engine.list(at);
    const changes = next(revision + 1).catch((error: unknown) => error);
    await restore();
    // What it would have been silent about.
    await untilDone(() => engine.commit([{ kind: "put", key: `${at}/a`, value: "new" }]));
    expect(await changes).toBeInstanceOf(RewoundError);
    expect((await engine.list(at)).entries).toMatchObject([{ value: "new" }]);
  });

  check("one that has come further since it was restored than it was before is not, either", async () => {
    const restore = await rig.copy();
    const { revision } = await engine.list(at);
    const seen: string[] = [];
    const watching = (async () => {
      for await (const { changes } of engine.watch(at, revision + 1, new AbortController().signal))
        for (const change of changes) seen.push(change.kind === "put" ? change.entry.value : "gone");
    })().catch((error: unknown) => error);
    await engine.commit([{ kind: "put", key: `${at}/a`, value: "lost" }]);
    await expect.poll(() => seen, { timeout: 20_000 }).toEqual(["lost"]);
    await restore();
    for (let index = 0; index < 5; index++)
      await untilDone(() => engine.commit([{ kind: "put", key: `${at}/b`, value: String(index) }]));
    const error = await watching;
    expect(error instanceof RewoundError || error instanceof CompactedError).toBe(true);
    expect(seen).toEqual(["lost"]);
  });

  check("a definition that is deleted is told key by key, and missed with the remedy", async () => {
    const { revision } = await engine.commit([
      { kind: "put", key: `${at}/a`, value: "1" },
      { kind: "put", key: `${at}/b`, value: "2" },
    ]);
    const stop = new AbortController();
    const told: string[] = [];
    const watching = (async () => {
      for await (const { changes } of engine.watch(at, revision + 1, stop.signal))
        for (const change of changes) told.push(change.kind === "put" ? change.entry.value : change.key);
    })().catch((error: unknown) => error);
    await engine.commit([{ kind: "put", key: `${at}/b`, value: "3" }]);
    await expect.poll(() => told, { timeout: 20_000 }).toEqual(["3"]);
    const again = await rig.deleteKind();
    await expect.poll(() => told.slice(1).toSorted(), { timeout: 20_000 }).toEqual([`${at}/a`, `${at}/b`]);
    const remedy = /it does not serve entries of netctl.io; apply deploy\/kubernetes\/crd.yaml/;
    await expect.poll(() => engine.list(at).catch(String), { timeout: 20_000 }).toMatch(remedy);
    expect((await engine.status()).problems).toEqual([expect.stringMatching(remedy)]);
    await again();
    await untilDone(() => engine.commit([{ kind: "put", key: `${at}/c`, value: "4" }]));
    // A watch from before tells of it, or ends: it is not silent.
    const ended = watching.then((error) => error instanceof CompactedError);
    const isTold = () => Promise.race([ended, sleep(10).then(() => told.at(-1) === "4")]);
    await expect.poll(isTold, { timeout: 20_000 }).toBe(true);
    stop.abort();
    expect((await engine.list(at)).entries).toMatchObject([{ value: "4" }]);
  });

  // Last: from here on it is busy.
  check("a server that is too busy is asked again when it says so", async () => {
    await rig.beBusy();
    const claims = Array.from({ length: 12 }, (_, index) =>
      untilRight(() => engine.commit([{ kind: "create", key: `${at}/${index}`, value: "" }])),
    );
    for (const { committed } of await Promise.all(claims)) expect(committed).toBe(true);
    expect((await engine.list(at)).entries).toHaveLength(12);
  });
});

describe("the API server of Kubernetes as engine", () => {
  let api: TestKubernetesApi;
  let engine: KubernetesEngine;
  const open = (more: object = {}) =>
    new KubernetesEngine({ server: api.url, namespace: netctlNamespace, ...more });
  beforeEach(async () => {
    api = await TestKubernetesApi.start();
    engine = open();
  });
  afterEach(async () => {
    await engine.close();
    await api.stop();
  });

  test("a watch goes on after its connection was ended, and bookmarks move it on", async () => {
    const { revision } = await engine.commit([{ kind: "put", key: "/a/", value: "1" }]);
    const stop = new AbortController();
    const seen: string[] = [];
    const watching = (async () => {
      for await (const { changes } of engine.watch("/a", revision + 1, stop.signal))
        for (const change of changes) seen.push(change.kind === "put" ? change.entry.value : "gone");
    })();
    const other = open();
    for (let index = 0; index < 3; index++) {
      await other.commit([{ kind: "put", key: "/b", value: String(index) }]);
      await other.commit([{ kind: "put", key: `/a/${index}`, value: `a${index}` }]);
      await expect.poll(() => seen.at(-1), { timeout: 10_000 }).toBe(`a${index}`);
      api.endWatches();
    }
    stop.abort();
    await watching;
    expect(seen).toEqual(["a0", "a1", "a2"]);
    await other.close();
  });

  test("a server that is none is refused, and one that is away is said", async () => {
    expect(() => open({ server: "kubernetes" })).toThrow(/expected https/);
    await expect(open({ server: "http://127.0.0.1:1" }).read("/a")).rejects.toMatchObject({
      fault: "unavailable",
    });
  });
});

/** Does it again while the server, which was started a moment ago, knows nobody's rights. */
async function untilRight<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof EngineError && error.fault === "denied")) throw error;
      await sleep(200);
    }
  }
}

/** Does it again while the server is away. */
async function untilDone<T>(work: () => Promise<T>): Promise<T> {
  for (const deadlineMs = performance.now() + 60_000; ; await sleep(100)) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > deadlineMs) throw error;
    }
  }
}
