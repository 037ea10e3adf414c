import { changeLink, type Link, readLink } from "#kernel/link.ts";
import type { NamespaceTarget, NetworkNamespace } from "#kernel/namespace.ts";
import { NamespaceError } from "#kernel/namespace-error.ts";
import type { Log } from "#machine/log.ts";
import { formatCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { equalIp } from "#net/ip.ts";
import { renewLease } from "./client.ts";
import type { Lease } from "./lease.ts";
import type { LeaseStore, StoredLease } from "./lease-store.ts";
import { LinkPort, type Port } from "./link-port.ts";

export interface LeaseKeeperOptions {
  readonly store: LeaseStore;
  readonly bootId: string;
  readonly hostNamespace: { readonly dev: number; readonly ino: number };
  readonly open: (target: NamespaceTarget) => NetworkNamespace;
  readonly log: Log;
  /** Seconds since the machine's start. */
  readonly now: () => number;
  readonly openPort?: (namespace: NetworkNamespace, link: Link) => Port;
}

type HeldLease = StoredLease & { readonly lease: Lease };

interface Entry {
  readonly stored: HeldLease;
  /** When a server is asked next. */
  nextAt: number;
  isBusy: boolean;
}

/** For an answer of the server. */
const answerTimeoutMs = 3000;
const lockTimeoutMs = 5000;
/** RFC 2131 section 4.4.5: at least that long between two tries, where the lease is long enough. */
const usualPauseSeconds = 60;

/**
 * Keeps the leases of this host's containers: asks their servers for more time at T1, any server from T2 on, and takes an
 * interface down whose lease has expired, since the address may be another's by then. What it knows is on disk: another
 * process, or the next one, goes on where it ended.
 */
export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #running = new Set<Promise<void>>();
  #changedAt = -1;
  #isClosed = false;

  constructor(options: LeaseKeeperOptions) {
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
      this.#options.log.error("cannot read DHCP leases", { error: String(error) });
    }
    for (const entry of this.#entries.values()) {
      if (entry.isBusy || this.#options.now() < entry.nextAt) continue;
      entry.isBusy = true;
      const work = this.#extend(entry)
        .catch((error: unknown) => {
          entry.nextAt = this.#options.now() + usualPauseSeconds;
          this.#log("error", "cannot extend a DHCP lease", entry.stored, { error: String(error) });
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
    const { store, bootId, hostNamespace } = this.#options;
    const changedAt = store.changedAt();
    if (changedAt === this.#changedAt) return;
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
          before.stored.netns.ino === stored.netns.ino
        )
          continue;
        this.#entries.set(id, { stored: { ...stored, lease }, nextAt: lease.times.renewAt, isBusy: false });
      }
    }
    for (const id of this.#entries.keys()) if (!seen.has(id)) this.#entries.delete(id);
  }

  async #extend(entry: Entry): Promise<void> {
    const { open, now } = this.#options;
    const { stored } = entry;
    let namespace: NetworkNamespace;
    try {
      namespace = open(stored.netns);
    } catch (error) {
      if (!(error instanceof NamespaceError)) throw error;
      this.#log("info", "a container with a DHCP lease has gone", stored);
      await this.#replace(stored, undefined);
      return;
    }
    try {
      const link = readLink(namespace, parseIfName(stored.key.ifName));
      const answer = link?.up ? await this.#ask(namespace, link, stored) : undefined;
      if (answer === "refused") await this.#expire(namespace, link, stored, "its server has taken it back");
      else if (answer) await this.#extended(stored, answer);
      else if (now() >= stored.lease.times.expiresAt) {
        await this.#expire(namespace, link, stored, "no server has extended it");
      } else this.#retryLater(entry);
    } finally {
      namespace.close();
    }
  }

  async #ask(namespace: NetworkNamespace, link: Link, { identity, lease }: HeldLease) {
    const { now, openPort = (at, { ifindex }) => LinkPort.open(at.fd, ifindex) } = this.#options;
    const mode = now() < lease.times.rebindAt ? "renew" : "rebind";
    const port = openPort(namespace, link);
    try {
      return await renewLease(port, identity, lease, { mode, timeoutMs: answerTimeoutMs, now });
    } finally {
      port.close();
    }
  }

  async #extended(stored: HeldLease, lease: Lease): Promise<void> {
    if (!equalIp(lease.address.address, stored.lease.address.address)) {
      throw new Error(`the server has given ${formatCidr(lease.address)} instead`);
    }
    await this.#replace(stored, { ...stored, lease });
    this.#log("debug", "a DHCP lease was extended", stored, {
      seconds: lease.times.expiresAt - lease.times.obtainedAt,
    });
  }

  /** Half of the time to the next point at which more servers are asked, or to the end. */
  #retryLater(entry: Entry): void {
    const now = this.#options.now();
    const { rebindAt, expiresAt, obtainedAt } = entry.stored.lease.times;
    const limit = now < rebindAt ? rebindAt : expiresAt;
    const least = Math.min(usualPauseSeconds, (expiresAt - obtainedAt) / 20);
    entry.nextAt = Math.min(now + Math.max((limit - now) / 2, least, 1), Math.max(limit, now + 1));
    this.#log("warn", "no server has answered for a DHCP lease", entry.stored, {
      nextTryInSeconds: Math.round(entry.nextAt - now),
    });
  }

  async #expire(
    namespace: NetworkNamespace,
    link: Link | undefined,
    stored: HeldLease,
    why: string,
  ): Promise<void> {
    const isReplaced = !(await this.#replace(stored, undefined));
    if (isReplaced) return;
    if (link) changeLink(namespace, link.ifindex, { up: false });
    this.#log("error", "a DHCP lease has expired: the interface is down", stored, { why });
  }

  /** @returns false where it has been given back or replaced meanwhile, and nothing is done */
  async #replace(before: HeldLease, after: StoredLease | undefined): Promise<boolean> {
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
    { key, lease }: HeldLease,
    more: object = {},
  ): void {
    this.#options.log[level](message, { ...key, address: formatCidr(lease.address), ...more });
  }
}

function isSame(a: { readonly dev: number; readonly ino: number }, b: typeof a): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}
