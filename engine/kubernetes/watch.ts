import { setTimeout as sleep } from "node:timers/promises";
import type { Changes } from "#engine/engine.ts";
import { CompactedError, EngineError, RewoundError } from "#engine/error.ts";
import { type KubernetesApi, StatusError } from "./api.ts";
import { type EntryObject, entryOf, isEntry, type ListObject, revisionOf } from "./objects.ts";

const shortestPauseMs = 100;
const longestPauseMs = 5000;
/** A server that was started a moment ago knows nobody's rights yet. */
const deniedMs = 30_000;
/** Bookmarks come each minute or so: when nothing has come for so long, the connection is dead. */
const silenceMs = 5 * 60_000;

interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: EntryObject & { readonly code?: number; readonly message?: string };
}

/**
 * Changes below a prefix from a revision on, over as many connections as it takes: the server ends each after some
 * minutes. Bookmarks move the place on from which the next one begins, so that it is not forgotten meanwhile.
 * @throws {CompactedError} 410 Gone @throws {RewoundError} @throws {EngineError} "denied"
 */
export async function* watchEntries(
  api: KubernetesApi,
  path: string,
  { prefix, from, signal }: { readonly prefix: string; readonly from: number; readonly signal: AbortSignal },
): AsyncGenerator<Changes> {
  let seen = from - 1;
  let pauseMs = shortestPauseMs;
  let deniedAtMs: number | undefined;
  while (!signal.aborted) {
    try {
      for await (const event of watchOnce(api, path, seen, signal)) {
        const revision = revisionOf(event.object.metadata.resourceVersion);
        seen = Math.max(seen, revision);
        pauseMs = shortestPauseMs;
        deniedAtMs = undefined;
        const changes = changesOf(event, prefix, revision);
        if (changes) yield changes;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (isDenied(error)) deniedAtMs ??= performance.now();
      else deniedAtMs = undefined;
      if (deniedAtMs === undefined || performance.now() - deniedAtMs > deniedMs) rethrowFinal(error, seen);
    }
    if (signal.aborted) return;
    await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal }).catch(() => undefined);
    pauseMs = Math.min(pauseMs * 2, longestPauseMs);
  }
}

function changesOf({ type, object }: WatchEvent, prefix: string, revision: number): Changes | undefined {
  if (type === "BOOKMARK" || !object.spec.key.startsWith(prefix) || !isEntry(object)) return undefined;
  if (type === "DELETED") return { revision, changes: [{ kind: "delete", key: object.spec.key, revision }] };
  return { revision, changes: [{ kind: "put", entry: entryOf(object) }] };
}

function rethrowFinal(error: unknown, seen: number): void {
  if (error instanceof RewoundError) throw error;
  if (!(error instanceof StatusError)) return;
  if (error.code === 410) throw new CompactedError(seen + 1);
  if (isDenied(error))
    throw new EngineError("denied", `Cannot watch the API server: ${error.message}`, { cause: error });
}

function isDenied(error: unknown): error is StatusError {
  return error instanceof StatusError && (error.code === 401 || error.code === 403);
}

/**
 * A server whose store was restored from an old copy takes a watch from a version that it has not reached, says nothing,
 * and leaves out all that happens until it has. Whatever restores a store ends the watches, so looking once is enough.
 */
async function refuseRewound(api: KubernetesApi, path: string, seen: number): Promise<void> {
  const { metadata } = (await api.call("GET", `${path}?limit=1`)) as ListObject<EntryObject>;
  const now = revisionOf(metadata.resourceVersion);
  if (now < seen) throw new RewoundError(now, seen);
}

async function* watchOnce(
  api: KubernetesApi,
  path: string,
  seen: number,
  signal: AbortSignal,
): AsyncGenerator<WatchEvent> {
  const query = `watch=1&allowWatchBookmarks=true&resourceVersion=${seen}`;
  const { response, close } = await api.stream(`${path}?${query}`);
  signal.addEventListener("abort", close, { once: true });
  let timer = setTimeout(close, silenceMs);
  try {
    await refuseRewound(api, path, seen);
    if (signal.aborted) return;
    let rest = "";
    response.setEncoding("utf8");
    for await (const piece of response) {
      clearTimeout(timer);
      timer = setTimeout(close, silenceMs);
      const lines = (rest + String(piece)).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.trim() === "") continue;
        const event = JSON.parse(line) as WatchEvent;
        if (event.type === "ERROR")
          throw new StatusError(event.object.code ?? 0, "", event.object.message ?? "the watch has ended");
        yield event;
      }
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", close);
    close();
  }
}
