import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { LocalEngine } from "#engine/local.ts";
import { silentLog } from "#machine/log.ts";
import { parseIp } from "#net/ip.ts";
import { type BulkRecord, readBulkRecord, takeBulk } from "./bulk-request.ts";
import { BulkSender } from "./bulk-sender.ts";
import { Keys } from "./keys.ts";

const keys = new Keys("default");
const loopback = parseIp("127.0.0.1");
const mebibyte = 1024 * 1024;

let directory: string;
let engine: LocalEngine;
let sender: BulkSender;
let sockets: Socket[] = [];
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "bulk-"));
  engine = await LocalEngine.open(directory);
  sender = new BulkSender(engine, silentLog);
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
  sender.close();
  await engine.close();
  rmSync(directory, { recursive: true, force: true });
});

/** Hands what is asked of host "h2" to `answer`, as its agent does. */
async function whileAsked<T>(answer: (key: string) => Promise<void>, body: Promise<T>): Promise<T> {
  const seen = new Set<string>();
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      for (const { key } of (await engine.list(keys.bulkAskedOf("h2"))).entries)
        if (!seen.has(key)) {
          seen.add(key);
          await answer(key);
        }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  })();
  try {
    return await body;
  } finally {
    isOver = true;
    await watching;
  }
}

async function offer(key: string): Promise<void> {
  const entry = await engine.read(key);
  if (entry) sender.offer(entry, new Set(["127.0.0.1"]));
}

const ask = (bytes: number) => takeBulk({ engine, keys, host: "h2", at: loopback, from: loopback, bytes });

test("several at once arrive whole, whatever their length", async () => {
  const lengths = [1, 64 * 1024, 64 * 1024 + 1, 4 * mebibyte];
  const outcomes = await whileAsked(offer, Promise.all(lengths.map(ask)));
  expect(outcomes).toEqual(
    lengths.map((bytes) => expect.objectContaining({ kind: "whole", bytes }) as object),
  );
});

test.each([
  ["whole", "what was sent", (bytes: Buffer) => bytes],
  ["damaged", "another byte", (bytes: Buffer) => bytes.fill(0xff, 0, 1)],
  ["damaged", "more", (bytes: Buffer) => Buffer.concat([bytes, Buffer.from("more")])],
  ["stalled", "less", (bytes: Buffer) => bytes.subarray(1)],
])("it is %s where %s arrives", async (kind, _what, spoil) => {
  /** Another host's agent that sends what the wire has made of it. */
  const answer = async (key: string): Promise<void> => {
    const entry = await engine.read(key);
    const asked = entry && readBulkRecord(entry.value);
    if (!entry || !asked) return;
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      const bytes = Buffer.alloc(asked.bytes);
      socket.end(spoil(Buffer.concat([bytes, createHash("sha256").update(bytes).digest()])));
      server.close();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("It listens nowhere");
    const value = JSON.stringify({ ...asked, port: address.port } satisfies BulkRecord);
    await engine.commit([{ kind: "replace", key, revision: entry.revision, value, lease: asked.lease }]);
  };
  expect(await whileAsked(answer, ask(1000))).toMatchObject({ kind });
});

test("who ask for much and take nothing cost little memory", async () => {
  const lease = await engine.grantLease(60);
  const record: BulkRecord = { v: 1, at: "127.0.0.1", from: "127.0.0.1", lease, bytes: 16 * mebibyte };
  for (const number of [1, 2, 3, 4]) {
    const key = `${keys.bulkAskedOf("h2")}${number}`;
    await engine.commit([{ kind: "create", key, value: JSON.stringify(record), lease }]);
    await offer(key);
    const port = async () => readBulkRecord((await engine.read(key))?.value ?? "")?.port;
    await expect.poll(port).toBeDefined();
    const socket = connect({ host: "127.0.0.1", port: (await port()) ?? 0 }).pause();
    sockets.push(socket);
    await once(socket, "readable");
  }
  // Of 64 that were asked for; some are garbage of what was sent before.
  expect(process.memoryUsage().arrayBuffers).toBeLessThan(40 * mebibyte);
});
