import { setTimeout as sleep } from "node:timers/promises";
import type { Changes } from "#engine/engine.ts";
import { CompactedError, RewoundError } from "#engine/error.ts";
import { type KubernetesApi, StatusError } from "./api.ts";
import { toEngineError } from "./failure-words.ts";
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
  let last: EntryObject | undefined;
  let pauseMs = shortestPauseMs;
  let deniedAtMs: number | undefined;
  while (!signal.aborted) {
    try {
      for await (const event of watchOnce(api, path, { seen, last, signal })) {
        const revision = revisionOf(event.object.metadata.resourceVersion);
        seen = Math.max(seen, revision);
        if (event.type === "ADDED" || event.type === "MODIFIED") last = event.object;
        else if (event.object.metadata.name === last?.metadata.name) last = undefined;
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
  if (error instanceof RewoundError || error instanceof CompactedError) throw error;
  if (!(error instanceof StatusError)) return;
  if (error.code === 410) throw new CompactedError(seen + 1);
  if (isDenied(error)) throw toEngineError("watch", error);
}

function isDenied(error: unknown): error is StatusError {
  return error instanceof StatusError && (error.code === 401 || error.code === 403);
}

interface Place {
  /** All up to this version has come. */
  readonly seen: number;
  /** What has come last, and was not deleted since. */
  readonly last: EntryObject | undefined;
  readonly signal: AbortSignal;
}

/**
 * A server whose store was restored from an old copy takes a watch from a version that it has not reached, says nothing,
 * and leaves out all that happens until it has; one that has reached it meanwhile, by what others have written, goes on as
 * if it were the same. Whatever restores a store ends the watches, so looking once is enough.
 * @throws {RewoundError} @throws {CompactedError} where nobody can tell: a list does
 */
async function refuseRewound(api: KubernetesApi, path: string, { seen, last }: Place): Promise<void> {
  const { metadata } = (await api.call("GET", `${path}?limit=1`)) as ListObject<EntryObject>;
  const now = revisionOf(metadata.resourceVersion);
  if (now < seen) throw new RewoundError(now, seen);
  if (!last) return;
  const { name, resourceVersion } = last.metadata;
  const present = await api.call("GET", `${path}/${name}`).catch((error: unknown) => {
    if (error instanceof StatusError && error.isNotFound) return undefined;
    throw error;
  });
  if ((present as EntryObject | undefined)?.metadata.resourceVersion !== resourceVersion)
    throw new CompactedError(seen + 1);
}

async function* watchOnce(api: KubernetesApi, path: string, place: Place): AsyncGenerator<WatchEvent> {
  const { seen, signal } = place;
  const query = `watch=1&allowWatchBookmarks=true&resourceVersion=${seen}`;
  const { response, close } = await api.stream(`${path}?${query}`);
  signal.addEventListener("abort", close, { once: true });
  let timer = setTimeout(close, silenceMs);
  try {
    await refuseRewound(api, path, place);
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
