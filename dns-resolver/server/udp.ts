import type { Asker } from "#dns-resolver/asker.ts";
import type { Handler, Outcome } from "#dns-resolver/chain.ts";
import type { DatagramHandler, EventLoop } from "#dns-resolver/event-loop.ts";
import { failure } from "#dns-resolver/link/authority.ts";
import type { QueryLog } from "#dns-resolver/query-log.ts";
import { copyBytes } from "#dns-resolver/wire/copy.ts";
import { Rcode } from "#dns-resolver/wire/numbers.ts";
import { isBadQuery, parseQuery } from "#dns-resolver/wire/query.ts";

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

  datagram(buffer: Uint8Array, start: number, length: number, address: number): void {
    if (length < minBytes && length >= 0) return;
    if (length < 0) {
      this.#refuse(buffer, start, address);
      return;
    }
    const asker = this.#options.asker();
    asker.load.queries += 1;
    this.#answer(asker, buffer, start, length, address);
  }

  #answer(asker: Asker, buffer: Uint8Array, start: number, length: number, address: number): void {
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
    let isAnswered = false;
    let late: { readonly address: Uint8Array; readonly query: Uint8Array } | undefined;
    const { answers } = asker;
    const { generation } = answers;
    const reply = (outcome: Outcome) => {
      const asked = late?.query ?? buffer.subarray(start, start + length);
      if (outcome.keep) answers.keep(asked, outcome.keep, generation);
      isAnswered = true;
      this.#options.log.add(asker, query, outcome, startedMs, loop.nowMs);
      const { message } = outcome;
      if (isSameRound) loop.send(this.#fd, message, address, query.id >> 8, query.id & 0xff);
      else if (late && this.#isOpen) loop.sendLate(this.#fd, message, late.address);
    };
    this.#options.handler(query, asker, reply);
    if (isAnswered) return;
    isSameRound = false;
    late = { address: loop.copyAddress(address), query: copyBytes(buffer, start, start + length) };
  }

  /** What is longer than any query of one name. */
  #refuse(buffer: Uint8Array, start: number, address: number): void {
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
