import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Changes } from "#engine/engine.ts";
import { CompactedError, RewoundError } from "#engine/error.ts";
import { TestKubernetesApi } from "#testing/kubernetes-api.ts";
import { KubernetesEngine } from "./kubernetes.ts";

let api: TestKubernetesApi;
let engine: KubernetesEngine;
const open = (more: object = {}) =>
  new KubernetesEngine({ server: api.url, namespace: "netctl", sweepMs: 50, ...more });
beforeEach(async () => {
  api = await TestKubernetesApi.start();
  engine = open();
});
afterEach(async () => {
  await engine.close();
  await api.stop();
});

async function next(from: number): Promise<Changes | undefined> {
  const stop = new AbortController();
  for await (const changes of engine.watch("/", from, stop.signal)) return changes;
  return undefined;
}

describe("the API server of Kubernetes as engine", () => {
  test("a claim whose guard fell while it was made is taken back", async () => {
    const net = await engine.commit([{ kind: "create", key: "/net", value: "active" }]);
    if (!net.committed) throw new Error("not created");
    // Another host changes the network right behind the look at the guards.
    const other = open();
    const claim = engine.commit([
      { kind: "unchanged", key: "/net", revision: net.revision },
      { kind: "create", key: "/block", value: "h1" },
    ]);
    await other.commit([{ kind: "replace", key: "/net", revision: net.revision, value: "deleting" }]);
    const outcome = await claim;
    // Whichever came first: a block that is there was claimed before the network was marked.
    expect((await engine.read("/block")) !== undefined).toBe(outcome.committed);
    await other.close();
  });

  test("of several steps that were done in order, those before a refusal are taken back", async () => {
    await engine.commit([{ kind: "create", key: "/pools", value: "1" }]);
    const other = open();
    const [first, second] = await Promise.all([
      engine.commit([
        { kind: "create", key: "/vni/1", value: "a" },
        { kind: "create", key: "/net/a", value: "a" },
      ]),
      other.commit([
        { kind: "create", key: "/vni/2", value: "b" },
        { kind: "create", key: "/net/a", value: "b" },
      ]),
    ]);
    expect([first.committed, second.committed].filter(Boolean)).toHaveLength(1);
    const left = (await engine.list("/vni/")).entries.map(({ value }) => value);
    expect(left).toEqual([(await engine.read("/net/a"))?.value]);
    await other.close();
  });

  test("an answer that was lost is looked for, and not written twice", async () => {
    api.loseAnswers(1);
    const made = await engine.commit([{ kind: "create", key: "/a", value: "nonce-1" }]);
    expect(made).toMatchObject({ committed: true });
    const entry = await engine.read("/a");
    expect(entry).toMatchObject({ value: "nonce-1" });
    api.loseAnswers(1);
    expect(
      await engine.commit([{ kind: "remove", key: "/a", revision: entry?.revision ?? 0 }]),
    ).toMatchObject({ committed: true });
    expect(await engine.read("/a")).toBeUndefined();
  });

  test("a server that is busy is asked again when it says so", async () => {
    api.beBusy(2);
    expect(await engine.commit([{ kind: "put", key: "/a", value: "1" }])).toMatchObject({ committed: true });
  });

  test("a watch goes on after its connection was ended, and bookmarks move it on", async () => {
    const { revision } = await engine.commit([{ kind: "put", key: "/a", value: "1" }]);
    const stop = new AbortController();
    const seen: string[] = [];
    const watching = (async () => {
      for await (const { changes } of engine.watch("/a", revision + 1, stop.signal))
        for (const change of changes) seen.push(change.kind === "put" ? change.entry.value : "gone");
    })();
    const other = open({ namespace: "netctl" });
    for (let index = 0; index < 3; index++) {
      await other.commit([{ kind: "put", key: "/b", value: String(index) }]);
      await other.commit([{ kind: "put", key: "/a", value: `a${index}` }]);
      await expect.poll(() => seen.at(-1), { timeout: 10_000 }).toBe(`a${index}`);
      api.endWatches();
    }
    stop.abort();
    await watching;
    expect(seen).toEqual(["a0", "a1", "a2"]);
    await other.close();
  });

  test("what the server has forgotten is said with 410, and what it has not reached yet with 504", async () => {
    const { revision } = await engine.commit([{ kind: "put", key: "/a", value: "1" }]);
    await engine.commit([{ kind: "put", key: "/a", value: "2" }]);
    api.compact();
    await expect(next(revision)).rejects.toThrow(CompactedError);
    api.wipe();
    await expect(next(revision + 3)).rejects.toThrow(RewoundError);
  });

  test("what goes with a lease goes when nobody has renewed it for long, by whoever sees that", async () => {
    const lease = await engine.grantLease(1);
    await engine.commit([{ kind: "create", key: "/live/h1", value: "s", lease }]);
    expect(await engine.keepAlive(lease)).toBe(true);
    const other = open();
    const own = await other.grantLease(60);
    await expect
      .poll(
        async () => {
          expect(await other.keepAlive(own)).toBe(true);
          return await other.read("/live/h1");
        },
        { timeout: 20_000 },
      )
      .toBeUndefined();
    expect(await engine.keepAlive(lease)).toBe(false);
    await other.close();
  });

  test("the token is read again when kubelet has renewed it, and a wrong one is said", async () => {
    const tokenFile = join(tmpdir(), `netctl-token-${process.pid}`);
    api.token = "first";
    writeFileSync(tokenFile, "first\n");
    const authorized = open({ tokenFile });
    try {
      expect(await authorized.read("/a")).toBeUndefined();
      api.token = "second";
      await expect(authorized.read("/a")).rejects.toMatchObject({ fault: "denied" });
      writeFileSync(tokenFile, "second\n");
      expect(await authorized.read("/a")).toBeUndefined();
    } finally {
      rmSync(tokenFile);
      await authorized.close();
    }
  });

  test("a server that is none is refused, and one that is away is said", async () => {
    expect(() => open({ server: "kubernetes" })).toThrow(/expected https/);
    await expect(open({ server: "http://127.0.0.1:1" }).read("/a")).rejects.toMatchObject({
      fault: "unavailable",
    });
  });
});
