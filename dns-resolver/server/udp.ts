import { nextVariant } from "#dns-resolver/answer-table.ts";
import type { Asker } from "#dns-resolver/asker.ts";
import type { Handler, Outcome } from "#dns-resolver/chain.ts";
import type { DatagramHandler, EventLoop } from "#dns-resolver/event-loop.ts";
import { failure } from "#dns-resolver/link/authority.ts";
import type { QueryLog } from "#dns-resolver/query-log.ts";
import type { Latin1Buffer } from "#dns-resolver/wire/latin1.ts";
import { Rcode } from "#dns-resolver/wire/numbers.ts";
import { isBadQuery, parseQuery } from "#dns-resolver/wire/query.ts";

/** Longer queries are of no usual client, and would be keys of a length that nobody else decides. */
const maxKeyBytes = 320;
const idBytes = 2;
const minBytes = 12;

export interface ServerOptions {
  readonly loop: EventLoop;
  readonly handler: Handler;
  readonly log: QueryLog;
  /** As it is at this moment: a container may join and leave networks. */
  readonly asker: () => Asker;
}

/** Answers what comes to one container's 127.0.0.11 over UDP. */
export class UdpServer implements DatagramHandler {
  readonly #options: ServerOptions;
  readonly #loop: EventLoop;
  readonly #fd: number;

  constructor(options: ServerOptions, fd: number) {
    this.#options = options;
    this.#loop = options.loop;
    this.#fd = fd;
  }

  datagram(buffer: Latin1Buffer, start: number, length: number, address: number): void {
    if (length < minBytes && length >= 0) return;
    if (length < 0) {
      this.#refuse(buffer, start, address);
      return;
    }
    const asker = this.#options.asker();
    const loop = this.#loop;
    asker.load.queries += 1;
    let key: string | undefined;
    // While somebody follows the log, every query is understood.
    if (length <= maxKeyBytes && !this.#options.log.isFollowed) {
      key = buffer.latin1Slice(start + idBytes, start + length);
      const kept = asker.answers.find(key, loop.nowMs);
      if (kept) {
        const message = nextVariant(kept, loop.nowMs);
        loop.send(this.#fd, message, address, buffer[start] as number, buffer[start + 1] as number);
        return;
      }
    }
    this.#answer(asker, buffer, start, length, address, key);
  }

  #answer(
    asker: Asker,
    buffer: Latin1Buffer,
    start: number,
    length: number,
    address: number,
    key: string | undefined,
  ): void {
    const loop = this.#loop;
    const query = parseQuery(buffer, start, start + length, false);
    const startedMs = loop.nowMs;
    if (isBadQuery(query)) {
      if (query.rcode === "drop") return;
      const outcome = failure(query, query.rcode, "malformed or not supported");
      loop.send(this.#fd, outcome.message, address, query.id >> 8, query.id & 0xff);
      return;
    }
    let isSameRound = true;
    let kept: Uint8Array | undefined;
    const { answers } = asker;
    const { generation } = answers;
    const reply = (outcome: Outcome) => {
      if (key !== undefined && outcome.keep) answers.keep(key, outcome.keep, generation);
      this.#options.log.add(asker, query, outcome, startedMs, loop.nowMs);
      const { message } = outcome;
      if (isSameRound) loop.send(this.#fd, message, address, query.id >> 8, query.id & 0xff);
      else if (kept && this.#isOpen) loop.sendLate(this.#fd, message, kept);
    };
    this.#options.handler(query, asker, reply);
    isSameRound = false;
    kept = loop.copyAddress(address);
  }

  /** What is longer than any query of one name. */
  #refuse(buffer: Latin1Buffer, start: number, address: number): void {
    const [high, low] = [buffer[start] as number, buffer[start + 1] as number];
    // An answer to an answer would go round for ever.
    if ((buffer[start + 2] as number) & 0x80) return;
    const bad = { rcode: Rcode.FormErr, id: (high << 8) | low, flags: 0, hasEdns: false };
    this.#loop.send(this.#fd, failure(bad, Rcode.FormErr, "too long").message, address, high, low);
  }

  #isOpen = true;

  /** Answers that come from now on are for nobody: the descriptor may be another's. */
  close(): void {
    this.#isOpen = false;
  }
}
