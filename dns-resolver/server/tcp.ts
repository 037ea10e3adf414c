import type { Outcome } from "#dns-resolver/chain.ts";
import type { EventLoop, Watched } from "#dns-resolver/event-loop.ts";
import { failure } from "#dns-resolver/link/authority.ts";
import type { Timer } from "#dns-resolver/timers.ts";
import { isBadQuery, parseQuery } from "#dns-resolver/wire/query.ts";
import { native, PollEvent } from "#native/addon.ts";
import type { ServerOptions } from "./udp.ts";

/** Of one container; another one's has room even so. */
const maxConnections = 64;
/** A connection on which nothing was asked, or not to the end, for so long is closed (RFC 7766 section 6.2.3). */
const idleMs = 10_000;
/** No query is longer: they have one name. */
const maxQueryBytes = 4096;
/** What one client may have to hear before it takes what it was told. */
const maxUnsentBytes = 256 * 1024;
/** Questions of one connection that may be under way. */
const maxUnanswered = 128;
const again = -11;

/** Answers what comes to one container's 127.0.0.11 over TCP: several questions on a connection, in whatever order. */
export class TcpServer {
  readonly #options: ServerOptions;
  readonly #connections = new Set<Connection>();

  constructor(options: ServerOptions) {
    this.#options = options;
  }

  /** @param listener a listening socket; the loop has it */
  accept(listener: number): void {
    // So many in one round; the loop comes back for the rest.
    for (let count = 0; count < 16; count++) {
      const fd = native().socketAccept(listener);
      if (fd < 0) return;
      const { load } = this.#options.asker();
      if (this.#connections.size >= maxConnections) {
        // The one that has been quiet for longest makes room.
        const [quietest] = this.#connections;
        quietest?.close();
        load.refused += 1;
      }
      const connection = new Connection(this.#options, fd, {
        asked: () => {
          // In the order in which they have last asked.
          this.#connections.delete(connection);
          this.#connections.add(connection);
        },
        closed: () => {
          this.#connections.delete(connection);
          load.connections = this.#connections.size;
        },
      });
      this.#connections.add(connection);
      load.connections = this.#connections.size;
    }
  }

  close(): void {
    for (const connection of this.#connections) connection.close();
  }
}

interface Owner {
  /** A whole question has come. */
  asked(): void;
  closed(): void;
}

class Connection {
  readonly #options: ServerOptions;
  readonly #loop: EventLoop;
  readonly #watched: Watched;
  readonly #owner: Owner;
  #received: Buffer = Buffer.alloc(0);
  #unsent: Buffer[] = [];
  #unsentBytes = 0;
  #unanswered = 0;
  #idle: Timer;
  #askedMs: number;
  #isReading = true;
  #isClosed = false;
  #hasEnded = false;

  constructor(options: ServerOptions, fd: number, owner: Owner) {
    this.#options = options;
    this.#loop = options.loop;
    this.#owner = owner;
    this.#watched = this.#loop.addStream(fd, (events) => this.#step(events));
    this.#askedMs = this.#loop.nowMs;
    this.#idle = this.#loop.after(idleMs, () => this.#closeIfIdle());
  }

  /** One timer at a time: each that is cancelled would stay until it is due, for each of thousands of questions. */
  #closeIfIdle(): void {
    const leftMs = this.#askedMs + idleMs - this.#loop.nowMs;
    if (leftMs > 0) this.#idle = this.#loop.after(leftMs, () => this.#closeIfIdle());
    else this.close();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#idle.cancel();
    this.#loop.close(this.#watched);
    this.#owner.closed();
  }

  #step(events: number): void {
    if (events & PollEvent.Out) this.#flush();
    if (!this.#isClosed && events & (PollEvent.In | PollEvent.HangUp | PollEvent.Error)) this.#read();
  }

  #read(): void {
    const chunk = Buffer.alloc(maxQueryBytes);
    const got = native().socketReceive(this.#watched.fd, chunk);
    if (got === again) return;
    if (got < 0) {
      this.close();
      return;
    }
    if (got === 0) {
      // It asks no more, but may wait for what it has asked.
      this.#hasEnded = true;
      if (this.#unanswered === 0 && this.#unsentBytes === 0) this.close();
      else this.#watch();
      return;
    }
    this.#received =
      this.#received.length === 0
        ? chunk.subarray(0, got)
        : Buffer.concat([this.#received, chunk.subarray(0, got)]);
    this.#takeQueries();
  }

  #takeQueries(): void {
    while (!this.#isClosed && this.#received.length >= 2 && this.#unanswered < maxUnanswered) {
      const length = this.#received.readUInt16BE(0);
      if (length > maxQueryBytes) {
        this.close();
        return;
      }
      if (this.#received.length < 2 + length) break;
      const message = this.#received.subarray(2, 2 + length);
      this.#received = this.#received.subarray(2 + length);
      this.#answer(message);
    }
    if (!this.#isClosed) this.#watch();
  }

  #answer(message: Buffer): void {
    const { handler, log } = this.#options;
    const asker = this.#options.asker();
    asker.load.queries += 1;
    const query = parseQuery(message, 0, message.length, true);
    // Only whole questions keep it open: single bytes, now and then, don't.
    this.#askedMs = this.#loop.nowMs;
    this.#owner.asked();
    if (isBadQuery(query)) {
      if (query.rcode === "drop") this.close();
      else this.#send(failure(query, query.rcode, "malformed or not supported").message);
      return;
    }
    const startedMs = this.#loop.nowMs;
    this.#unanswered += 1;
    handler(query, asker, (outcome: Outcome) => {
      this.#unanswered -= 1;
      log.add(asker, query, outcome, startedMs, this.#loop.nowMs);
      if (!this.#isClosed) this.#send(outcome.message);
      if (!this.#isClosed && !this.#isReading) this.#takeQueries();
    });
  }

  #send(message: Uint8Array): void {
    const length = Uint8Array.of(message.length >> 8, message.length & 0xff);
    this.#unsent.push(Buffer.concat([length, message]));
    this.#unsentBytes += message.length + 2;
    if (this.#unsentBytes > maxUnsentBytes) this.close();
    else this.#flush();
  }

  #flush(): void {
    while (this.#unsent.length > 0) {
      const all = this.#unsent.length === 1 ? (this.#unsent[0] as Buffer) : Buffer.concat(this.#unsent);
      const sent = native().socketSend(this.#watched.fd, all);
      if (sent < 0 && sent !== again) {
        this.close();
        return;
      }
      const rest = all.subarray(Math.max(sent, 0));
      this.#unsent = rest.length > 0 ? [rest] : [];
      this.#unsentBytes = rest.length;
      if (rest.length > 0) break;
    }
    if (this.#hasEnded && this.#unanswered === 0 && this.#unsentBytes === 0) this.close();
    else this.#watch();
  }

  #watch(): void {
    this.#isReading = !this.#hasEnded && this.#unanswered < maxUnanswered;
    this.#loop.watch(this.#watched, { input: this.#isReading, output: this.#unsentBytes > 0 });
  }
}
