import { socketAddressBytes } from "#machine/socket-address.ts";
import { type Answers, native, PollEvent, type Poller, PollRecord } from "#native/addon.ts";
import { type Timer, Timers } from "./timers.ts";

/** Datagrams and events of one round; of one socket at most 16. */
const maxRecords = 512;
/** Longer datagrams are cut: no query is as long, and no answer to one of ours. */
const slotBytes = 4096;
const outBytes = 1 << 20;
const maxOut = 1024;
/** Addresses of answers that come in a later round than their questions. */
const maxLate = maxOut;
const recordInts = 4;

/** What is done with datagrams of one socket. */
export interface DatagramHandler {
  /**
   * @param length -1: longer than the loop reads
   * @param address index for `send()`, until the round ends
   */
  datagram(buffer: Uint8Array, start: number, length: number, address: number): void;
  /** @param errno as of recvmmsg(2): ECONNREFUSED on a connected socket */
  failed?(errno: number): void;
}

/** @param events `PollEvent`s */
export type StreamHandler = (events: number) => void;

/** A descriptor in the loop, which owns it. */
export interface Watched {
  readonly fd: number;
  readonly tag: number;
}

/**
 * The resolver's only loop: it sleeps in the kernel, reads what has come in batches, and sends what was said to it at
 * the end of each round. What a table has an answer for is answered where it is read, and never gets here. Nothing in it ever waits, and Node's own loop never runs.
 */
export class EventLoop {
  readonly #native = native();
  readonly #poller: Poller = this.#native.pollerCreate();
  readonly #timers = new Timers();
  readonly #datagrams = new Map<number, DatagramHandler>();
  readonly #streams = new Map<number, StreamHandler>();
  readonly #in = new Uint8Array(maxRecords * slotBytes);
  readonly #records = new Int32Array(maxRecords * recordInts);
  readonly #addresses = new Uint8Array((maxRecords + maxLate) * socketAddressBytes);
  readonly #out = new Uint8Array(outBytes);
  readonly #outRecords = new Int32Array(maxOut * recordInts);
  readonly #onError: (error: unknown) => void;
  #outLength = 0;
  #outCount = 0;
  #lateCount = 0;
  #tag = 0;
  #isStopped = false;
  #nowMs = performance.now();

  /** @param onError told of what a handler throws; the loop goes on */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** As of the beginning of this round, like performance.now(). */
  get nowMs(): number {
    return this.#nowMs;
  }

  addDatagrams(fd: number, handler: DatagramHandler): Watched {
    const tag = this.#nextTag();
    this.#native.pollerAdd(this.#poller, fd, tag, true);
    this.#datagrams.set(tag, handler);
    return { fd, tag };
  }

  /** At first waits for input. */
  addStream(fd: number, handler: StreamHandler): Watched {
    const tag = this.#nextTag();
    this.#native.pollerAdd(this.#poller, fd, tag, false);
    this.#streams.set(tag, handler);
    return { fd, tag };
  }

  /** The same for one that stays the caller's, and that the caller closes after the loop has ended. */
  addBorrowed(fd: number, handler: StreamHandler): Watched {
    const watched = this.addStream(fd, handler);
    this.#native.pollerDisown(this.#poller, fd);
    return watched;
  }

  /** Says what a stream is waited for. */
  watch({ fd }: Watched, events: { readonly input: boolean; readonly output: boolean }): void {
    const mask = (events.input ? PollEvent.In : 0) | (events.output ? PollEvent.Out : 0);
    this.#native.pollerWatch(this.#poller, fd, mask);
  }

  /** A table for `answerBy()`. */
  createAnswers(): Answers {
    return this.#native.answersCreate(this.#poller);
  }

  /** From now on its handler hears only of datagrams that have no answer in that table. */
  answerBy({ fd }: Watched, answers: Answers): void {
    this.#native.pollerAnswer(this.#poller, fd, answers);
  }

  /** How many datagrams its handler has not heard of. */
  answeredOf({ fd }: Watched): number {
    return this.#native.pollerAnswered(this.#poller, fd);
  }

  /** @param whether handlers hear of all datagrams */
  tellAll(whether: boolean): void {
    this.#native.pollerTellAll(this.#poller, whether);
  }

  /** Closes the descriptor. Safe to call twice. */
  close({ fd, tag }: Watched): void {
    const isKnown = this.#datagrams.delete(tag) || this.#streams.delete(tag);
    if (!isKnown) return;
    // Another socket may get the number next.
    this.flush();
    this.#native.pollerClose(this.#poller, fd);
  }

  after(delayMs: number, run: () => void): Timer {
    return this.#timers.at(this.#nowMs + delayMs, run);
  }

  /** A copy of the address of a datagram of this round, for `sendLate()`. */
  copyAddress(address: number): Uint8Array {
    const at = address * socketAddressBytes;
    return this.#addresses.slice(at, at + socketAddressBytes);
  }

  /**
   * Sends at the end of the round.
   * @param address of a datagram of this round; -1 on a connected socket
   * @param high and low byte of the id to send in place of the message's
   */
  send(fd: number, message: Uint8Array, address: number, high: number, low: number): void {
    const { length } = message;
    if (this.#isFull(length)) this.flush();
    const offset = this.#outLength;
    const out = this.#out;
    out.set(message, offset);
    out[offset] = high;
    out[offset + 1] = low;
    const at = this.#outCount++ * recordInts;
    const records = this.#outRecords;
    records[at] = fd;
    records[at + 1] = offset;
    records[at + 2] = length;
    records[at + 3] = address;
    this.#outLength = offset + length;
  }

  /** The same to an address that was kept. */
  sendLate(fd: number, message: Uint8Array, address: Uint8Array): void {
    // Before the address is put down: a flush in between would let the next one overwrite it.
    if (this.#lateCount === maxLate || this.#isFull(message.length)) this.flush();
    const index = maxRecords + this.#lateCount++;
    this.#addresses.set(address, index * socketAddressBytes);
    this.send(fd, message, index, message[0] ?? 0, message[1] ?? 0);
  }

  #isFull(length: number): boolean {
    return this.#outCount === maxOut || this.#outLength + length > outBytes;
  }

  /** Sends what is waiting now. */
  flush(): void {
    if (this.#outCount > 0)
      this.#native.datagramsSend(this.#out, this.#outRecords, this.#outCount, this.#addresses);
    this.#outCount = 0;
    this.#outLength = 0;
    this.#lateCount = 0;
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** Returns after `stop()`. */
  run(): void {
    while (!this.#isStopped) {
      const count = this.#native.pollerWait(
        this.#poller,
        this.#timeoutMs(),
        this.#in,
        this.#records,
        this.#addresses,
      );
      this.#nowMs = performance.now();
      for (let index = 0; index < count; index++) {
        try {
          this.#dispatch(index);
        } catch (error) {
          this.#onError(error);
        }
      }
      this.#timers.runDue(this.#nowMs, this.#onError);
      this.flush();
    }
  }

  #dispatch(index: number): void {
    const records = this.#records;
    const at = index * recordInts;
    const tag = records[at] as number;
    const what = records[at + 1] as number;
    const handler = this.#datagrams.get(tag);
    if (what === PollRecord.Datagram) {
      handler?.datagram(this.#in, records[at + 2] as number, records[at + 3] as number, index);
    } else if (what === PollRecord.Error) {
      handler?.failed?.(records[at + 3] as number);
    } else {
      this.#streams.get(tag)?.(what);
    }
  }

  #timeoutMs(): number {
    const next = this.#timers.nextMs;
    if (next === undefined) return -1;
    return Math.max(Math.ceil(next - performance.now()), 0);
  }

  #nextTag(): number {
    // Numbers come again after a billion sockets, of which none is left by then.
    do this.#tag = (this.#tag + 1) & 0x3fffffff;
    while (this.#datagrams.has(this.#tag) || this.#streams.has(this.#tag));
    return this.#tag;
  }
}
