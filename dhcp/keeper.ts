import { type Link, readLink } from "#kernel/link.ts";
import type { NamespaceTarget, NetworkNamespace } from "#kernel/namespace.ts";
import { NamespaceError } from "#kernel/namespace-error.ts";
import type { Log } from "#machine/log.ts";
import { parseIfName } from "#net/ifname.ts";
import type { Extension, LeaseProtocol, Question } from "./lease-protocol.ts";
import type { LeaseStore, StoredLease } from "./lease-store.ts";
import type { LeaseTimes } from "./lease-times.ts";

export interface LeaseKeeperOptions<Identity, Lease extends { readonly times: LeaseTimes }> {
  readonly protocol: LeaseProtocol<Identity, Lease>;
  readonly store: LeaseStore<Identity, Lease>;
  readonly bootId: string;
  readonly hostNamespace: { readonly dev: number; readonly ino: number };
  readonly open: (target: NamespaceTarget) => NetworkNamespace;
  readonly log: Log;
  /** Seconds since the machine's start. */
  readonly now: () => number;
}

type Held<Identity, Lease> = StoredLease<Identity, Lease> & { readonly lease: Lease };

interface Entry<Identity, Lease> {
  readonly stored: Held<Identity, Lease>;
  /** When a server is asked next. */
  nextAt: number;
  isBusy: boolean;
  /** The link may have become another one since the lease was got. */
  isDoubtful: boolean;
  /** What was asked in vain, since when, and the pause after the last time. */
  tries:
    | { readonly mode: Question["mode"]; readonly since: number; readonly pauseSeconds: number }
    | undefined;
}

const lockTimeoutMs = 5000;
/** After something that went wrong here. */
const usualPauseSeconds = 60;
/** Within that time after a start the leases are confirmed, each at a moment of its own. */
const confirmSpreadSeconds = 5;

/**
 * Keeps the leases of one protocol that this host's containers have: asks their servers for more time at T1, any server
 * from T2 on, and takes from the interface what has expired, since it may be another's by then. What it knows is on disk:
 * another process, or the next one, goes on where it ended.
 */
export class LeaseKeeper<Identity, Lease extends { readonly times: LeaseTimes }> {
  readonly #options: LeaseKeeperOptions<Identity, Lease>;
  readonly #entries = new Map<string, Entry<Identity, Lease>>();
  readonly #running = new Set<Promise<void>>();
  #changedAt: number | undefined;
  #isClosed = false;

  constructor(options: LeaseKeeperOptions<Identity, Lease>) {
    this.#options = options;
  }

  get hasLeases(): boolean {
    return this.#entries.size > 0;
  }

  /** Nothing is under way. */
  get isIdle(): boolean {
    return this.#running.size === 0;
  }

  /** To be called about every second: looks whether leases have come or gone, and begins what is due. */
  tick(): void {
    if (this.#isClosed) return;
    try {
      this.#reload();
    } catch (error) {
      this.#options.log.error(`cannot read ${this.#options.protocol.name} leases`, { error: String(error) });
    }
    for (const entry of this.#entries.values()) {
      if (entry.isBusy || this.#options.now() < entry.nextAt) continue;
      entry.isBusy = true;
      const work = this.#extend(entry)
        .catch((error: unknown) => {
          entry.nextAt = this.#options.now() + usualPauseSeconds;
          this.#log("error", "cannot extend a lease", entry.stored, { error: String(error) });
        })
        .finally(() => {
          entry.isBusy = false;
          this.#running.delete(work);
        });
      this.#running.add(work);
    }
  }

  /** Waits for what is under way; the leases stay as they are. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.all(this.#running);
  }

  #reload(): void {
    const { store, bootId, hostNamespace, protocol, now } = this.#options;
    const changedAt = store.changedAt();
    if (changedAt === this.#changedAt) return;
    // Those that are there at the start are of an earlier keeper; it is not known what has happened meanwhile.
    const isDoubtful = this.#changedAt === undefined && protocol.canConfirm;
    this.#changedAt = changedAt;
    const seen = new Set<string>();
    for (const stored of store.list()) {
      // Its namespace has gone with that boot.
      if (stored.bootId !== bootId) store.remove(stored.key);
      else if (isSame(stored.hostNamespace, hostNamespace) && stored.lease) {
        const id = JSON.stringify(stored.key);
        seen.add(id);
        const before = this.#entries.get(id);
        const { lease } = stored;
        if (
          before?.stored.lease.times.obtainedAt === lease.times.obtainedAt &&
          before.stored.lease.times.expiresAt === lease.times.expiresAt &&
          before.stored.netns.ino === stored.netns.ino
        )
          continue;
        const soon = isDoubtful ? now() + Math.random() * confirmSpreadSeconds : Number.POSITIVE_INFINITY;
        this.#entries.set(id, {
          stored: { ...stored, lease },
          nextAt: Math.min(soon, dueAt(lease.times)),
          isBusy: false,
          isDoubtful,
          tries: undefined,
        });
      }
    }
    for (const id of this.#entries.keys()) if (!seen.has(id)) this.#entries.delete(id);
  }

  async #extend(entry: Entry<Identity, Lease>): Promise<void> {
    const { open, now, protocol } = this.#options;
    const { stored } = entry;
    let namespace: NetworkNamespace;
    try {
      namespace = open(stored.netns);
    } catch (error) {
      if (!(error instanceof NamespaceError)) throw error;
      this.#log("info", "a container with a lease has gone", stored);
      await this.#replace(stored, undefined);
      return;
    }
    try {
      const link = readLink(namespace, parseIfName(stored.key.ifName));
      const mode = this.#modeOf(entry);
      const answer = await this.#ask(namespace, link, entry, mode);
      if (answer.outcome === "extended") {
        await this.#change(namespace, link, stored, { after: answer.lease, why: "its server says so" });
      } else if (answer.outcome === "lost") {
        await this.#change(namespace, link, stored, { after: undefined, why: answer.why });
      } else if (answer.outcome === "silence" && now() >= stored.lease.times.expiresAt) {
        const after = protocol.remaining(stored.lease, now());
        await this.#change(namespace, link, stored, { after, why: "no server has extended it" });
      } else if (mode === "confirm") {
        // Where nobody says anything against it, it goes on: RFC 8415 section 18.2.3.
        entry.isDoubtful = false;
        entry.nextAt = dueAt(stored.lease.times);
      } else if (answer.outcome === "silence") this.#retryLater(entry, mode, answer.why);
    } finally {
      namespace.close();
    }
  }

  #modeOf({ stored, isDoubtful }: Entry<Identity, Lease>): Question["mode"] {
    const { rebindAt, expiresAt } = stored.lease.times;
    const now = this.#options.now();
    if (isDoubtful && now < expiresAt) return "confirm";
    return now < rebindAt ? "renew" : "rebind";
  }

  async #ask(
    namespace: NetworkNamespace,
    link: Link | undefined,
    entry: Entry<Identity, Lease>,
    mode: Question["mode"],
  ): Promise<Extension<Lease>> {
    const { now, protocol } = this.#options;
    const { identity, lease } = entry.stored;
    const port = link?.up ? protocol.openPort(namespace, link) : undefined;
    if (!port) {
      entry.isDoubtful = protocol.canConfirm && mode !== "confirm";
      return { outcome: "silence", why: "the interface is down" };
    }
    try {
      const elapsedSeconds = entry.tries?.mode === mode ? now() - entry.tries.since : 0;
      return await protocol.extend(port, identity, lease, { mode, now, elapsedSeconds });
    } finally {
      port.close();
    }
  }

  #retryLater(entry: Entry<Identity, Lease>, mode: Question["mode"], why: string): void {
    const now = this.#options.now();
    const { times } = entry.stored.lease;
    const before = entry.tries?.mode === mode ? entry.tries : undefined;
    const previous = before ? { previousSeconds: before.pauseSeconds } : {};
    const pauseSeconds = this.#options.protocol.pauseSeconds(times, { now, ...previous });
    const limit = now < times.rebindAt ? times.rebindAt : times.expiresAt;
    entry.tries = { mode, since: before?.since ?? now, pauseSeconds };
    entry.nextAt = Math.min(now + pauseSeconds, Math.max(limit, now + 1));
    this.#log("warn", "a lease could not be extended yet", entry.stored, {
      why,
      nextTryInSeconds: Math.round(entry.nextAt - now),
    });
  }

  /** Writes down what the lease has become, and takes what is no longer in it from the interface. */
  async #change(
    namespace: NetworkNamespace,
    link: Link | undefined,
    stored: Held<Identity, Lease>,
    { after, why }: { readonly after: Lease | undefined; readonly why: string },
  ): Promise<void> {
    const { protocol } = this.#options;
    if (!(await this.#replace(stored, after && { ...stored, lease: after }))) return;
    const { lease: before, isShared } = stored;
    if (link) protocol.withdraw(namespace, link, { before, after, isShared });
    if (!after)
      this.#log("error", "a lease has expired: the container can't use its addresses", stored, { why });
    else if (protocol.describe(after) !== protocol.describe(before)) {
      this.#log("error", "a lease has lost addresses", stored, { left: protocol.describe(after), why });
    } else {
      const { expiresAt, obtainedAt } = after.times;
      this.#log("debug", "a lease was extended", stored, { seconds: expiresAt - obtainedAt });
    }
  }

  /** @returns false where it has been given back or replaced meanwhile, and nothing is done */
  async #replace(
    before: Held<Identity, Lease>,
    after: StoredLease<Identity, Lease> | undefined,
  ): Promise<boolean> {
    const { store } = this.#options;
    return await store.withLock(
      before.key,
      () => {
        const present = store.read(before.key);
        if (present?.lease?.times.obtainedAt !== before.lease.times.obtainedAt) return false;
        if (after) store.write(after);
        else store.remove(before.key);
        return true;
      },
      { timeoutMs: lockTimeoutMs },
    );
  }

  #log(
    level: "debug" | "info" | "warn" | "error",
    message: string,
    { key, lease }: Held<Identity, Lease>,
    more: object = {},
  ): void {
    const { log, protocol } = this.#options;
    log[level](message, { ...key, protocol: protocol.name, addresses: protocol.describe(lease), ...more });
  }
}

/** When a server is to be asked first. */
function dueAt({ renewAt, expiresAt }: LeaseTimes): number {
  return Math.min(renewAt, expiresAt);
}

function isSame(a: { readonly dev: number; readonly ino: number }, b: typeof a): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}
