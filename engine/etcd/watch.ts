import { setTimeout as sleep } from "node:timers/promises";
import type { Change, Changes } from "#engine/engine.ts";
import { CompactedError, EngineError, RewoundError } from "#engine/error.ts";
import { type Gateway, GatewayError } from "./gateway.ts";
import { decodeText, encodeText, endOfPrefix, type KeyValue, toNumber, type WatchAnswer } from "./message.ts";

/** Nothing at all for so long, not even etcd's report of progress (each ten minutes): the connection is dead. */
const silenceMs = 11 * 60_000;

const shortestPauseMs = 100;
const longestPauseMs = 5000;

/**
 * Changes below a prefix from a revision on, over as many connections as it takes. Each begins behind the last revision
 * that was delivered, so nothing is lost and nothing comes twice.
 * @throws {CompactedError} @throws {RewoundError}
 */
export async function* watchEtcd(
  gateway: Gateway,
  prefix: string,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<Changes> {
  let next = from;
  let pauseMs = shortestPauseMs;
  while (!signal.aborted) {
    try {
      for await (const changes of watchOnce(gateway, prefix, next, signal)) {
        next = changes.revision + 1;
        pauseMs = shortestPauseMs;
        if (changes.changes.length > 0) yield changes;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof CompactedError || error instanceof RewoundError) throw error;
      if (error instanceof EngineError && error.fault === "denied") throw error;
      if (error instanceof GatewayError && (error.grpcCode === 7 || error.grpcCode === 16))
        throw new EngineError("denied", `Cannot watch etcd: ${error.message}`, { cause: error });
    }
    if (signal.aborted) return;
    gateway.turnAway();
    // At random, so that the hosts of a cluster do not come back all at once.
    await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, longestPauseMs);
  }
}

async function* watchOnce(
  gateway: Gateway,
  prefix: string,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<Changes> {
  const create_request = {
    key: encodeText(prefix),
    range_end: endOfPrefix(prefix),
    start_revision: String(from),
    progress_notify: true,
  };
  const { response, close } = await gateway.stream("/v3/watch", { create_request });
  signal.addEventListener("abort", close, { once: true });
  let timer = setTimeout(close, silenceMs);
  try {
    let rest = "";
    response.setEncoding("utf8");
    for await (const piece of response) {
      clearTimeout(timer);
      timer = setTimeout(close, silenceMs);
      const lines = (rest + String(piece)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines)
        if (line.trim() !== "") yield* changesIn(JSON.parse(line) as WatchAnswer, from);
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", close);
    close();
  }
}

function* changesIn(answer: WatchAnswer, from: number): Generator<Changes> {
  const { result, error } = answer;
  if (error) throw new GatewayError(error.grpc_code ?? 2, error.message ?? "the watch was cancelled");
  if (!result) return;
  const oldest = toNumber(result.compact_revision);
  if (oldest > 0) throw new CompactedError(oldest);
  if (result.canceled) throw new GatewayError(14, result.cancel_reason ?? "the watch was cancelled");
  // The first answer says that the watch stands, and the revision of the store, of which nothing was delivered yet. A
  // watch of the future is none that is ever asked for.
  const revisionNow = toNumber(result.header?.revision);
  if (result.created && revisionNow < from - 1) throw new RewoundError(revisionNow, from - 1);
  if (result.created) return;
  const changes = (result.events ?? []).map(({ type, kv }) => changeOf(type, kv));
  const last = changes.at(-1);
  // A report of progress has no events: everything up to its revision was delivered.
  const revision = last ? revisionOf(last) : toNumber(result.header?.revision);
  if (revision >= from) yield { revision, changes };
}

function changeOf(type: string | undefined, kv: KeyValue | undefined): Change {
  const key = decodeText(kv?.key);
  const revision = toNumber(kv?.mod_revision);
  return type === "DELETE"
    ? { kind: "delete", key, revision }
    : { kind: "put", entry: { key, value: decodeText(kv?.value), revision } };
}

function revisionOf(change: Change): number {
  return change.kind === "put" ? change.entry.revision : change.revision;
}
