import { setTimeout as sleep } from "node:timers/promises";
import type { Changes, Engine, EngineStatus, Entry, Lease, Outcome, Snapshot, Step } from "#engine/engine.ts";
import { CompactedError, EngineError } from "#engine/error.ts";
import { keyOf, revisionIfDone } from "#engine/guard.ts";
import { wholeList } from "#engine/whole-list.ts";
import { answerHint, transportWords } from "./failure-words.ts";
import { Gateway, GatewayError, TransportError } from "./gateway.ts";
import {
  decodeText,
  encodeText,
  endOfPrefix,
  type KeyValue,
  type RangeAnswer,
  type TxnAnswer,
  toNumber,
} from "./message.ts";
import type { EtcdSettings } from "./settings.ts";
import { watchEtcd } from "./watch.ts";

/** etcd's own limit on the operations of a transaction (--max-txn-ops). */
const maxSteps = 128;

/** Keys of one page of a list. For each page etcd 3.4 looks through all keys that are still to come. */
const pageKeys = 2000;

/** How often a write whose outcome is unknown is looked at again, and how long to wait between. */
const readBackTries = 4;
const readBackPauseMs = 250;

/** An etcd v3 cluster as engine, through its JSON gateway. */
export class EtcdEngine implements Engine {
  readonly #gateway: Gateway;
  readonly #closing = new AbortController();

  /** Connects with the first call. @throws {EngineError} for settings that can't be right */
  constructor(settings: EtcdSettings) {
    this.#gateway = new Gateway(settings);
  }

  async commit(steps: readonly Step[]): Promise<Outcome> {
    if (steps.length > maxSteps)
      throw new EngineError("invalid", `Cannot commit ${steps.length} steps at once: etcd takes ${maxSteps}`);
    const request = transaction(steps);
    let lost: TransportError;
    try {
      return outcomeOf(await this.#transact(request));
    } catch (error) {
      if (!(error instanceof TransportError) || !error.wasSent) throw engineError("write to", error);
      lost = error;
    }
    return await this.#settle(steps, request, lost);
  }

  /**
   * The reply to a write was lost. The same write again: it is done now, or it is refused, and then what is there tells
   * whether the first one was done.
   */
  async #settle(steps: readonly Step[], request: unknown, lost: TransportError): Promise<Outcome> {
    for (let attempt = 0; attempt < readBackTries; attempt++) {
      await sleep(readBackPauseMs * (1 + Math.random()));
      try {
        const outcome = outcomeOf(await this.#transact(request));
        if (outcome.committed) return outcome;
        const revision = revisionIfDone(steps, outcome.found);
        return revision === undefined ? outcome : { committed: true, revision: revision || outcome.revision };
      } catch (error) {
        if (!(error instanceof TransportError)) throw engineError("write to", error);
      }
    }
    throw new EngineError("unknown", `Cannot tell whether a write to etcd was done: ${lost.message}`, {
      cause: lost,
    });
  }

  async #transact(request: unknown): Promise<TxnAnswer> {
    return (await this.#gateway.call("/v3/kv/txn", request, { isWrite: true })) as TxnAnswer;
  }

  async read(key: string): Promise<Entry | undefined> {
    const answer = await this.#range({ key: encodeText(key) });
    const [first] = answer.kvs ?? [];
    return first && entryOf(first);
  }

  async list(prefix: string): Promise<Snapshot> {
    return await wholeList(() => this.listInParts(prefix));
  }

  async *listInParts(prefix: string): AsyncGenerator<Snapshot, undefined> {
    const end = endOfPrefix(prefix);
    let revision = 0;
    const pageFrom = (key: string): Promise<RangeAnswer | undefined> =>
      this.#rangeOrCompacted({
        key,
        range_end: end,
        limit: String(pageKeys),
        ...(revision > 0 ? { revision: String(revision) } : {}),
      });
    let page: Promise<RangeAnswer | undefined> | undefined = pageFrom(encodeText(prefix));
    while (page) {
      const answer: RangeAnswer | undefined = await page;
      if (!answer) throw new CompactedError(revision);
      if (revision === 0) revision = toNumber(answer.header?.revision);
      const { kvs = [], more = false }: RangeAnswer = answer;
      const last: KeyValue | undefined = kvs.at(-1);
      // etcd reads the next one while this one is gone through.
      page = more && last ? pageFrom(keyAfter(last.key)) : undefined;
      // Who ends early does not hear what becomes of it.
      page?.catch(() => undefined);
      yield { revision, entries: kvs.map(entryOf) };
    }
    return undefined;
  }

  async #rangeOrCompacted(page: object): Promise<RangeAnswer | undefined> {
    try {
      return (await this.#gateway.call("/v3/kv/range", page)) as RangeAnswer;
    } catch (error) {
      if (error instanceof GatewayError && error.message.includes("compacted")) return undefined;
      throw engineError("read from", error);
    }
  }

  async #range(request: object): Promise<RangeAnswer> {
    try {
      return (await this.#gateway.call("/v3/kv/range", request)) as RangeAnswer;
    } catch (error) {
      throw engineError("read from", error);
    }
  }

  watch(prefix: string, from: number, signal: AbortSignal): AsyncIterable<Changes> {
    return watchEtcd(this.#gateway, prefix, from, AbortSignal.any([signal, this.#closing.signal]));
  }

  async grantLease(ttlSeconds: number): Promise<Lease> {
    try {
      const answer = (await this.#gateway.call("/v3/lease/grant", { TTL: String(ttlSeconds) })) as {
        ID?: string;
      };
      if (!answer.ID) throw new Error("no id was given");
      return { id: answer.ID, ttlSeconds };
    } catch (error) {
      throw engineError("get a lease from", error);
    }
  }

  async keepAlive(lease: Lease): Promise<boolean> {
    try {
      const answer = (await this.#gateway.call("/v3/lease/keepalive", { ID: lease.id })) as {
        result?: { TTL?: string };
      };
      return toNumber(answer.result?.TTL) > 0;
    } catch (error) {
      throw engineError("keep a lease of", error);
    }
  }

  async revokeLease(lease: Lease): Promise<void> {
    try {
      await this.#gateway.call("/v3/lease/revoke", { ID: lease.id });
    } catch (error) {
      if (error instanceof GatewayError && error.grpcCode === 5) return;
      throw engineError("give back a lease of", error);
    }
  }

  reconnect(): void {
    this.#gateway.reconnect();
  }

  async status(): Promise<EngineStatus> {
    const problems: string[] = [];
    let revision = 0;
    let leaders = 0;
    await Promise.all(
      this.#gateway.endpoints.map(async (endpoint) => {
        try {
          const member = (await this.#gateway.callAt(endpoint, "/v3/maintenance/status", {})) as MemberStatus;
          revision = Math.max(revision, toNumber(member.header?.revision));
          if (member.leader && member.leader !== "0") leaders++;
          else problems.push(`${endpoint} has no leader`);
          for (const text of member.errors ?? []) problems.push(`${endpoint}: ${text}`);
        } catch (error) {
          problems.push(error instanceof TransportError ? error.message : `${endpoint}: ${String(error)}`);
        }
      }),
    );
    const isFull = problems.some((text) => text.includes("NOSPACE"));
    return { problems: problems.sort(), isReadOnly: leaders === 0 || isFull, revision };
  }

  close(): Promise<void> {
    this.#closing.abort();
    this.#gateway.close();
    return Promise.resolve();
  }
}

interface MemberStatus {
  readonly header?: { readonly revision?: string };
  readonly leader?: string;
  readonly errors?: readonly string[];
}

function transaction(steps: readonly Step[]): object {
  const keys = new Set(steps.flatMap((step) => keyOf(step) ?? []));
  return {
    compare: steps.flatMap((step) => compareOf(step) ?? []),
    success: steps.flatMap((step) => operationOf(step) ?? []),
    failure: [...keys].map((key) => ({ request_range: { key: encodeText(key) } })),
  };
}

function compareOf(step: Step): object | undefined {
  switch (step.kind) {
    case "create":
    case "absent":
      return { key: encodeText(step.key), target: "CREATE", result: "EQUAL", create_revision: "0" };
    case "replace":
    case "remove":
    case "unchanged":
      return {
        key: encodeText(step.key),
        target: "MOD",
        result: "EQUAL",
        mod_revision: String(step.revision),
      };
    case "empty": {
      // True for each key of the range; so only where there is none.
      const range = { key: encodeText(step.prefix), range_end: endOfPrefix(step.prefix) };
      return { ...range, target: "CREATE", result: "EQUAL", create_revision: "0" };
    }
    case "put":
    case "clear":
      return undefined;
  }
}

function operationOf(step: Step): object | undefined {
  switch (step.kind) {
    case "create":
    case "replace": {
      const lease = step.lease ? { lease: step.lease.id } : {};
      return { request_put: { key: encodeText(step.key), value: encodeText(step.value), ...lease } };
    }
    case "put":
      return { request_put: { key: encodeText(step.key), value: encodeText(step.value) } };
    case "remove":
    case "clear":
      return { request_delete_range: { key: encodeText(step.key) } };
    case "unchanged":
    case "absent":
    case "empty":
      return undefined;
  }
}

function outcomeOf(answer: TxnAnswer): Outcome {
  const revision = toNumber(answer.header?.revision);
  if (answer.succeeded) return { committed: true, revision };
  const entries = (answer.responses ?? []).flatMap((one) => one.response_range?.kvs ?? []).map(entryOf);
  return { committed: false, revision, found: new Map(entries.map((entry) => [entry.key, entry])) };
}

/** The first key that comes after this one; both in base64. */
function keyAfter(key: string): string {
  return Buffer.concat([Buffer.from(key, "base64"), Buffer.from([0])]).toString("base64");
}

export function entryOf(kv: KeyValue): Entry {
  return { key: decodeText(kv.key), value: decodeText(kv.value), revision: toNumber(kv.mod_revision) };
}

/** gRPC codes: 7 and 16 who you are, 8 no room, 14 nobody there, 3 and 9 the request itself. */
function engineError(action: string, error: unknown): Error {
  if (error instanceof EngineError) return error;
  const isAnswer = error instanceof GatewayError || error instanceof TransportError;
  const words = isAnswer ? error.message : transportWords(error);
  const message = `Cannot ${action} etcd: ${words}${answerHint(words)}`;
  if (!(error instanceof GatewayError)) return new EngineError("unavailable", message, { cause: error });
  if (error.message.includes("space exceeded")) return new EngineError("no-space", message, { cause: error });
  if (
    error.grpcCode === 7 ||
    error.grpcCode === 16 ||
    /permission denied|authentication failed|invalid user/.test(error.message)
  )
    return new EngineError("denied", message, { cause: error });
  if (error.grpcCode === 3 || error.grpcCode === 9 || error.grpcCode === 11)
    return new EngineError("invalid", message, { cause: error });
  return new EngineError("unavailable", message, { cause: error });
}
