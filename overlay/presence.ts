import { setTimeout as sleep } from "node:timers/promises";
import type { Engine, Step } from "#engine/engine.ts";
import type { Log } from "#machine/log.ts";
import { OverlayError } from "./error.ts";
import type { Keys } from "./keys.ts";
import { formatRecord, type HostRecord } from "./record.ts";
import { renewalSeconds, Session } from "./session.ts";

const shortestPauseMs = 200;
const longestPauseMs = 10_000;
/** How often the host is compared with what it has registered as. */
const lookIntervalMs = 1500;

export interface PresenceOptions {
  readonly engine: Engine;
  readonly keys: Keys;
  readonly nonce: string;
  /** This host as it is now; undefined while its underlay has no address. */
  readonly readSelf: () => HostRecord | undefined;
  /** For the words where it has none. */
  readonly underlay: string;
  readonly signal: AbortSignal;
  readonly log: Log;
  /** Called with each registration. */
  readonly registered: () => void;
  /** Called whenever the engine has answered. */
  readonly answered: () => void;
  readonly failed: (error: unknown) => void;
}

/** Keeps this host registered in the engine, as it is now. */
export class Presence {
  readonly #options: PresenceOptions;
  #session: Session | undefined;
  #self: HostRecord | undefined;
  #wake: () => void = () => undefined;
  #isPoked = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
  }

  /** As it has registered; undefined before it has. */
  get self(): HostRecord | undefined {
    return this.#self;
  }

  /** What a write has to find unchanged; undefined without a session. */
  get fence(): Step | undefined {
    return this.#session?.fence;
  }

  /** Until the signal. */
  async attend(): Promise<void> {
    const { signal } = this.#options;
    let retryMs = shortestPauseMs;
    while (!signal.aborted) {
      let pauseMs = renewalSeconds * 1000;
      try {
        if (!(await this.#isPresent())) await this.#register();
        this.#options.answered();
        retryMs = shortestPauseMs;
      } catch (error) {
        this.#options.failed(error);
        pauseMs = retryMs;
        retryMs = Math.min(retryMs * 2, longestPauseMs);
      }
      await this.#pauseUntilChanged(pauseMs);
    }
  }

  /** Looks at once whether the session still holds: something says that the engine is not what it was. */
  poke(): void {
    this.#isPoked = true;
    this.#wake();
  }

  /** Compares this host at once with what it has registered as. */
  look(): void {
    this.#wake();
  }

  async end(): Promise<void> {
    await this.#session?.end();
  }

  async #isPresent(): Promise<boolean> {
    const now = this.#options.readSelf();
    if (now && this.#self && formatRecord(now) !== formatRecord(this.#self)) {
      // What is connected was so from the old address: its packets go nowhere, and nobody says so.
      if (formatRecord(now.underlay) !== formatRecord(this.#self.underlay)) this.#options.engine.reconnect();
      return false;
    }
    return this.#session !== undefined && (await this.#session.keepAlive());
  }

  async #register(): Promise<void> {
    const { engine, keys, nonce, underlay, log, readSelf } = this.#options;
    const self = readSelf();
    if (!self)
      throw new OverlayError("missing", `No device has the underlay address of this host: ${underlay}`);
    this.#session = await Session.begin(engine, keys, self, nonce, this.#session);
    this.#self = self;
    log.info("registered", { host: self.id, underlay: formatRecord(self.underlay) });
    this.#options.registered();
  }

  /** True if this host is not as it has registered. */
  #hasChanged(): boolean {
    const now = this.#options.readSelf();
    return now !== undefined && this.#self !== undefined && formatRecord(now) !== formatRecord(this.#self);
  }

  async #pauseUntilChanged(timeMs: number): Promise<void> {
    const { signal } = this.#options;
    const end = performance.now() + timeMs;
    while (!signal.aborted && !this.#isPoked && performance.now() < end) {
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await sleep(Math.min(lookIntervalMs, end - performance.now()), undefined, {
        signal: AbortSignal.any([signal, woken.signal]),
      }).catch(() => undefined);
      if (this.#hasChanged()) break;
    }
    this.#isPoked = false;
  }
}
