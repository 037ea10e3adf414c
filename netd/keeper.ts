import type { Log } from "#machine/log.ts";
import { RulesetWatch } from "#nftables/ruleset-watch.ts";
import type { PluginHost } from "#plugins/context.ts";
import { foundAnything, type Repair, type RepairMemory, repair, repairAttributes } from "#suite/repair.ts";
import { withGrowingHeap } from "./growing-heap.ts";

/** A firewall's reload is several commits: to let it come to its end. */
const settleMs = 100;
/** However long it goes on. */
const longestWaitMs = 500;
/** After an ADD or DEL was under way that nobody could tell from a half-made attachment. */
const unsettledMs = 500;
/** After a look that failed, as where nft is missing; longer each time. */
const firstRetryMs = 500;
const longestRetryMs = 60_000;
/** Where the kernel tells nothing: how much longer than a look the pause between two is. */
const pauseFactor = 20;
const shortestPauseMs = 1000;

/** Attachments that have a line of their own, after a repair. */
const maxNamed = 200;

/** What the keeper works with; parts are replaced in tests. */
export interface KeeperOptions {
  readonly host: PluginHost;
  readonly repair?: (host: PluginHost) => Promise<Repair>;
  /** Told of each look that came to its end. */
  readonly onRepair?: (found: Repair) => void;
}

/**
 * Keeps the rules of the attachments in place while netd runs: notices when another program has taken something away,
 * and puts it back within two seconds, mostly within a few tenths of one. The suite's own changes wake it not at all.
 */
export class Keeper {
  readonly #host: PluginHost;
  readonly #repair: (host: PluginHost) => Promise<Repair>;
  readonly #onRepair: (found: Repair) => void;
  #watch: RulesetWatch | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** When the first of the changes came that the next look is for. */
  #changedAtMs: number | undefined;
  #running: Promise<void> | undefined;
  #generation = -1;
  #lookedAtMs = 0;
  #lookTookMs = 0;
  #hadTable = false;
  #failures = 0;
  #isClosed = false;

  constructor({ host, repair: carryOut = repairAgain(), onRepair }: KeeperOptions) {
    this.#onRepair = onRepair ?? (() => undefined);
    this.#host = host;
    this.#repair = carryOut;
  }

  /** Subscribes, then looks for what was taken away before. Never throws: without nftables there is nothing to keep. */
  start(): void {
    this.#subscribe();
    this.#look("start");
  }

  /**
   * To be called about every second: notices a change that the kernel has told nobody of. Costs one question to the
   * kernel, and two more where the ruleset is another one than the last time.
   */
  tick(): void {
    if (this.#isClosed || this.#changedAtMs !== undefined || this.#running) return;
    try {
      const generation = this.#host.nftables.generation();
      if (this.#watch?.hasMissed(generation) === true) {
        this.#look("a change was told to nobody");
        return;
      }
      if (generation === this.#generation) return;
      this.#generation = generation;
      if (this.#watch) {
        const hasTable = this.#host.nftables.hasSkeleton("inet");
        if (this.#hadTable && !hasTable) this.#look("the table is gone");
        this.#hadTable = hasTable;
      } else if (performance.now() - this.#lookedAtMs >= this.#pauseMs) {
        this.#look("the ruleset has changed");
      } else {
        this.#generation = -1;
      }
    } catch (error) {
      this.#host.log.debug("cannot ask for the ruleset's generation", { error: messageOf(error) });
    }
  }

  /** Ends the subscription, and waits for what is under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#watch?.close();
    this.#watch = undefined;
    await this.#running;
  }

  get #pauseMs(): number {
    return Math.max(shortestPauseMs, pauseFactor * this.#lookTookMs);
  }

  #subscribe(): void {
    const { nftables, kernel, log } = this.#host;
    try {
      this.#watch = new RulesetWatch({
        namespaceFd: kernel.namespace.fd,
        nftables,
        onChange: (reason) => {
          log.debug("the ruleset was changed", { reason });
          this.#look(reason);
        },
        onEnd: (error) => {
          this.#watch = undefined;
          log.warn("no notifications of nftables any more: looking at it every second", {
            error: error.message,
          });
        },
      });
    } catch (error) {
      log.warn("cannot subscribe to nftables: looking at it every second", { error: messageOf(error) });
    }
  }

  /** Soon, and once for changes that come together. */
  #look(reason: string): void {
    if (this.#isClosed) return;
    const nowMs = performance.now();
    this.#changedAtMs ??= nowMs;
    this.#host.log.debug("going to look at the ruleset", { reason });
    const waitedMs = nowMs - this.#changedAtMs;
    this.#schedule(Math.max(0, Math.min(settleMs, longestWaitMs - waitedMs)));
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer);
    if (this.#running) return; // Which looks for more when it ends.
    this.#timer = setTimeout(() => {
      this.#changedAtMs = undefined;
      this.#running = this.#lookNow().finally(() => {
        this.#running = undefined;
        if (this.#changedAtMs !== undefined && !this.#isClosed) this.#schedule(settleMs);
      });
    }, delayMs);
    this.#timer.unref();
  }

  async #lookNow(): Promise<void> {
    const { log, nftables } = this.#host;
    const startMs = performance.now();
    try {
      this.#generation = nftables.generation();
      const found = await this.#repair(this.#host);
      this.#hadTable = nftables.hasSkeleton("inet");
      report(found, log, performance.now() - startMs);
      this.#onRepair(found);
      if (found.unsettled) this.#lookLater(unsettledMs);
      this.#failures = 0;
    } catch (error) {
      log.error("cannot repair the ruleset", { error: messageOf(error) });
      this.#lookLater(Math.min(firstRetryMs * 2 ** this.#failures++, longestRetryMs));
    }
    this.#lookedAtMs = performance.now();
    this.#lookTookMs = this.#lookedAtMs - startMs;
  }

  #lookLater(delayMs: number): void {
    const timer = setTimeout(() => this.#look("something was under way"), delayMs);
    timer.unref();
  }
}

/** From here on a look makes so many objects that the heap should grow for it. */
const manyRecords = 1000;

/** Reads no record twice that is as it was: with thousands of attachments, that is most of what a look takes. */
function repairAgain(): (host: PluginHost) => Promise<Repair> {
  const memory: RepairMemory = new Map();
  return (host) => {
    const look = () => repair(host, { memory });
    return host.journal.hasMoreThan(manyRecords) ? withGrowingHeap(look) : look();
  };
}

function report(found: Repair, log: Log, tookMs: number): void {
  const { tables, shared, attachments, failed, looked } = found;
  if (!foundAnything(found)) return;
  const elements = attachments.reduce((sum, each) => sum + each.elements.length, shared.length);
  const rules = attachments.reduce((sum, each) => sum + each.rules.length, 0);
  log.warn("somebody has taken rules away; they are back", {
    tables: tables.map(({ family, was }) => `${family} ${was}`),
    attachments: attachments.length,
    elements,
    rules,
    looked,
    tookMs: Math.round(tookMs),
  });
  for (const { key, plugin, elements: ofThis, rules: others } of attachments.slice(0, maxNamed)) {
    log.info("rules put back", { ...key, plugin, elements: ofThis.length, rules: others.length });
  }
  log.event({ type: "rules", action: "repair", attributes: repairAttributes(found) });
  for (const { key, plugin, reason } of failed) log.error("cannot put back", { ...key, plugin, reason });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
