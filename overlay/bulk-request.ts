import { createHash, randomBytes } from "node:crypto";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import type { Engine } from "#engine/engine.ts";
import { formatIp, type IpAddress } from "#net/ip.ts";
import type { Keys } from "./keys.ts";

/**
 * What one host asks of another's agent by the engine: to send some megabytes through the tunnel, once. Short packets and
 * single large ones arrive where a network card computes checksums of VXLAN or cuts its segments wrongly; these do not.
 */
const schema = v.looseObject({
  v: v.literal(1),
  /** Where to listen: an address of the asked host's tunnel. */
  at: v.string(),
  /** Who may connect: that of the asking host's. */
  from: v.string(),
  /** The asking host's: what is written goes with it. */
  lease: v.object({ id: v.string(), ttlSeconds: v.number() }),
  bytes: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(16 * 1024 * 1024)),
  /** TCP; there as soon as the asked host listens. */
  port: v.optional(v.number()),
});
export type BulkRecord = v.InferOutput<typeof schema>;

/** @returns undefined for what is no such record */
export function readBulkRecord(value: string): BulkRecord | undefined {
  try {
    return v.parse(schema, JSON.parse(value));
  } catch {
    return undefined;
  }
}

/** Behind the bytes: SHA-256 of them. */
export const digestBytes = 32;

/** How long the asked host may take to listen, nothing may come, and the whole of it may take to arrive. */
const listenMs = 5000;
const silenceMs = 4000;
export const transferMs = 30_000;
const leaseSeconds = 60;

export type BulkOutcome =
  | { readonly kind: "whole"; readonly bytes: number; readonly ms: number }
  /** Its agent has not listened: nothing is known of the way. */
  | { readonly kind: "unasked" }
  /** So many bytes came within `ms`, and the last ones, where `isSilent`, some seconds before that. */
  | {
      readonly kind: "stalled";
      readonly received: number;
      readonly ms: number;
      readonly isSilent: boolean;
    }
  | { readonly kind: "damaged" };

export interface BulkAsk {
  readonly engine: Engine;
  readonly keys: Keys;
  /** Id of the host that is to send. */
  readonly host: string;
  readonly at: IpAddress;
  readonly from: IpAddress;
  readonly bytes: number;
}

/** Asks, and takes what comes. Nothing of it stays in the engine. @throws {EngineError} */
export async function takeBulk({ engine, keys, host, at, from, bytes }: BulkAsk): Promise<BulkOutcome> {
  const lease = await engine.grantLease(leaseSeconds);
  try {
    const key = `${keys.bulkAskedOf(host)}${randomBytes(8).toString("hex")}`;
    const record: BulkRecord = { v: 1, at: formatIp(at), from: formatIp(from), lease, bytes };
    await engine.commit([{ kind: "create", key, value: JSON.stringify(record), lease }]);
    const deadlineMs = performance.now() + listenMs;
    while (performance.now() < deadlineMs) {
      const entry = await engine.read(key);
      const port = entry && readBulkRecord(entry.value)?.port;
      if (port !== undefined) return await receive(at, port, from, bytes);
      await sleep(100);
    }
    return { kind: "unasked" };
  } finally {
    await engine.revokeLease(lease).catch(() => undefined);
  }
}

async function receive(at: IpAddress, port: number, from: IpAddress, bytes: number): Promise<BulkOutcome> {
  const startMs = performance.now();
  return await new Promise((resolve) => {
    const hash = createHash("sha256");
    let received = 0;
    let digest = Buffer.alloc(0);
    const socket = connect({ host: formatIp(at), port, localAddress: formatIp(from) });
    const end = (outcome: BulkOutcome) => {
      clearTimeout(timer);
      clearTimeout(silence);
      socket.off("close", finish).destroy();
      resolve(outcome);
    };
    const stall = (isSilent: boolean) =>
      end({ kind: "stalled", received, ms: performance.now() - startMs, isSilent });
    const finish = () => {
      if (received < bytes + digestBytes) stall(false);
      else if (hash.digest().equals(digest)) end({ kind: "whole", bytes, ms: performance.now() - startMs });
      else end({ kind: "damaged" });
    };
    const timer = setTimeout(() => stall(false), transferMs);
    const silence = setTimeout(() => {
      const before = received;
      // Where this process has been busy for so long, something may be there to be read.
      setImmediate(() => {
        if (!socket.destroyed && received === before) stall(true);
      });
    }, silenceMs);
    socket.on("data", (piece: Buffer) => {
      silence.refresh();
      const rest = Math.max(0, bytes - received);
      hash.update(piece.subarray(0, rest));
      digest = Buffer.concat([digest, piece.subarray(rest)]);
      received += piece.length;
      if (received > bytes + digestBytes) finish();
    });
    socket.on("error", () => undefined);
    socket.on("close", finish);
  });
}
