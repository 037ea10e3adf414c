import { native } from "#native/addon.ts";
import { Errno } from "./errno.ts";
import { NetlinkError, type NetlinkErrorDetails } from "./error.ts";
import {
  ControlType,
  decodeVerdict,
  encodeRequests,
  type Message,
  MessageFlag,
  messagesIn,
  type Request,
  type Verdict,
} from "./message.ts";

/** NETLINK_*: include/uapi/linux/netlink.h */
export const Protocol = { Route: 0, SockDiag: 4, Netfilter: 12, Generic: 16 } as const;

export interface SocketOptions {
  readonly protocol: number;
  /** An open /proc/PID/ns/net or the like; the own namespace where there is none. Only needed while opening. */
  readonly namespaceFd?: number | undefined;
}

/** What became of one request of several. */
export class Outcome {
  /** What the kernel sent besides its acknowledgement */
  readonly messages: Message[] = [];
  /** Undefined where it was done */
  refusal: NetlinkErrorDetails | undefined;

  /** 0 where it was done */
  get errno(): number {
    return this.refusal?.errno ?? 0;
  }

  /** Made when it is asked for: many refusals are expected, and an error is dear for its stack. */
  get error(): NetlinkError | undefined {
    return this.refusal && new NetlinkError(this.refusal);
  }
}

/** How one socket's bytes travel. The addon is the real one; tests put a scripted kernel in its place. */
export interface Transport {
  readonly port: number;
  exchange(datagram: Uint8Array): Uint8Array;
  exchangeAsync(datagram: Uint8Array): Promise<Uint8Array>;
  join(group: number): void;
  receive(): Uint8Array;
  close(): void;
}

/** A table that keeps changing is read so often before the caller hears of it. */
const maxDumpAttempts = 16;

/**
 * A netlink socket in one network namespace. The synchronous calls take microseconds where the kernel does; what makes
 * it wait (a deletion, loading a module) belongs into the asynchronous ones, which run on a thread of the pool.
 * The kernel's refusals are thrown as NetlinkError.
 */
export class NetlinkSocket {
  readonly #transport: Transport;
  #sequence = 0;
  #pending = 0;
  #closed = false;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Its netlink address. */
  get port(): number {
    return this.#transport.port;
  }

  /** @throws {NetlinkError} EPROTONOSUPPORT where this kernel lacks the family; EMFILE */
  static open(options: SocketOptions): NetlinkSocket {
    return new NetlinkSocket(openTransport(options));
  }

  /**
   * Sends all requests in one datagram. Returns the kernel's messages for each, without acknowledgements.
   * @throws {NetlinkError} the first refusal; its `index` and `succeeded` tell what of the rest was done
   */
  transact(requests: readonly Request[]): Message[][] {
    return firstErrorThrown(this.attempt(requests));
  }

  /** The same on a thread of the pool. */
  async transactAsync(requests: readonly Request[]): Promise<Message[][]> {
    return firstErrorThrown(await this.attemptAsync(requests));
  }

  /** Like `transact`, with each request's refusal beside the others' success. */
  attempt(requests: readonly Request[]): Outcome[] {
    if (requests.length === 0) return [];
    const first = this.#take(requests.length);
    const op = requests[0]?.op ?? "";
    const datagram = encodeRequests(requests, first, this.#transport.port);
    return this.#outcomes(
      requests,
      first,
      withOp(op, () => this.#transport.exchange(datagram)),
    );
  }

  /** The same on a thread of the pool. */
  async attemptAsync(requests: readonly Request[]): Promise<Outcome[]> {
    if (requests.length === 0) return [];
    const first = this.#take(requests.length);
    const op = requests[0]?.op ?? "";
    const datagram = encodeRequests(requests, first, this.#transport.port);
    this.#pending++;
    try {
      const replies = await this.#transport
        .exchangeAsync(datagram)
        .catch((error: unknown) => rethrow(op, error));
      return this.#outcomes(requests, first, replies);
    } finally {
      this.#pending--;
      if (this.#closed) this.#transport.close();
    }
  }

  /**
   * All entries of a table. Read again where the kernel says that it changed meanwhile (NLM_F_DUMP_INTR), as entries
   * may be missing then.
   * @throws {NetlinkError} EINTR where it kept changing
   */
  dump(request: Request): Message[] {
    for (let attempt = 0; attempt < maxDumpAttempts; attempt++) {
      const messages = this.#dumpOnce(request);
      if (messages) return messages;
    }
    throw new NetlinkError({ errno: Errno.EINTR, op: request.op, kernelMessage: "the table kept changing" });
  }

  /** The same on a thread of the pool: for tables through which the kernel walks for long, as that of connections. */
  async dumpAsync(request: Request): Promise<Message[]> {
    for (let attempt = 0; attempt < maxDumpAttempts; attempt++) {
      const { sequence, datagram } = this.#encodeDump(request);
      this.#pending++;
      try {
        const replies = await this.#transport
          .exchangeAsync(datagram)
          .catch((error: unknown) => rethrow(request.op, error));
        const messages = this.#entries(request, sequence, replies);
        if (messages) return messages;
      } finally {
        this.#pending--;
        if (this.#closed) this.#transport.close();
      }
    }
    throw new NetlinkError({ errno: Errno.EINTR, op: request.op, kernelMessage: "the table kept changing" });
  }

  /** Subscribes to notifications of a multicast group (RTNLGRP_*). Not for a socket that also transacts. */
  join(group: number): void {
    this.#check();
    withOp(`join netlink group ${group}`, () => this.#transport.join(group));
  }

  /** The notifications that are queued. @throws {NetlinkError} ENOBUFS where some were lost: read the tables anew */
  receive(): Message[] {
    this.#check();
    return messagesIn(withOp("receive notifications", () => this.#transport.receive()));
  }

  /** Safe to call twice, and while an asynchronous call is under way, which then still settles. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#pending === 0) this.#transport.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #check(): void {
    if (this.#closed) throw new Error("Cannot use a netlink socket that was closed");
    // Two exchanges on one socket would read each other's answers.
    if (this.#pending > 0)
      throw new Error("Cannot use a netlink socket while an asynchronous call is under way");
  }

  /** Reserves sequence numbers; 0 is the kernel's own, for notifications. */
  #take(count: number): number {
    this.#check();
    if (this.#sequence + count > 0xffffffff) this.#sequence = 0;
    const first = this.#sequence + 1;
    this.#sequence += count;
    return first;
  }

  #outcomes(requests: readonly Request[], first: number, replies: Uint8Array): Outcome[] {
    const outcomes = requests.map(() => new Outcome());
    const verdicts: (Verdict | undefined)[] = requests.map(() => undefined);
    for (const message of messagesIn(replies)) {
      const index = message.sequence - first;
      const outcome = outcomes[index];
      if (!outcome || message.port !== this.#transport.port) continue;
      if (message.type === ControlType.Error)
        verdicts[index] = worse(verdicts[index], decodeVerdict(message));
      else if (message.type >= 16) outcome.messages.push(message);
    }
    for (const [index, outcome] of outcomes.entries()) {
      const { op = "", acknowledge } = requests[index] ?? {};
      // The kernel answers nothing for what it did not get to: the rest of a batch that it threw away as a whole.
      const verdict = verdicts[index] ?? (acknowledge === false ? accepted : noAnswer);
      if (verdict.errno !== 0) outcome.refusal = { ...verdict, op, index };
    }
    return outcomes;
  }

  #dumpOnce(request: Request): Message[] | undefined {
    const { sequence, datagram } = this.#encodeDump(request);
    return this.#entries(
      request,
      sequence,
      withOp(request.op, () => this.#transport.exchange(datagram)),
    );
  }

  #encodeDump(request: Request): { readonly sequence: number; readonly datagram: Uint8Array } {
    const sequence = this.#take(1);
    const asked = { ...request, flags: request.flags | MessageFlag.Dump, acknowledge: false };
    return { sequence, datagram: encodeRequests([asked], sequence, this.#transport.port) };
  }

  /** Undefined where the dump was interrupted. */
  #entries(request: Request, sequence: number, replies: Uint8Array): Message[] | undefined {
    const entries: Message[] = [];
    let interrupted = false;
    let done = false;
    for (const message of messagesIn(replies)) {
      if (message.sequence !== sequence || message.port !== this.#transport.port) continue;
      if ((message.flags & MessageFlag.DumpInterrupted) !== 0) interrupted = true;
      if (message.type === ControlType.Error || message.type === ControlType.Done) {
        const verdict = decodeVerdict(message);
        if (verdict.errno !== 0) throw new NetlinkError({ ...verdict, op: request.op });
        done = true;
      } else if (message.type >= 16) entries.push(message);
    }
    return interrupted || !done ? undefined : entries;
  }
}

function openTransport(options: SocketOptions): Transport {
  const calls = native();
  const { fd, port } = withOp("open a netlink socket", () =>
    calls.netlinkOpen(options.namespaceFd ?? -1, options.protocol),
  );
  return {
    port,
    exchange: (datagram) => calls.netlinkExchange(fd, datagram),
    exchangeAsync: (datagram) => calls.netlinkExchangeAsync(fd, datagram),
    join: (group) => calls.netlinkJoin(fd, group),
    receive: () => calls.netlinkReceive(fd),
    // What an rtnetlink socket holds is gone at once; whoever waits for nf_tables waits for all that was deleted.
    close: () => calls.netlinkClose(fd, options.protocol !== Protocol.Netfilter),
  };
}

/** A batch may get two verdicts for one message; the refusal counts. */
function worse(before: Verdict | undefined, verdict: Verdict): Verdict {
  return before && before.errno !== 0 ? before : verdict;
}

const accepted: Verdict = { errno: 0 };
const noAnswer = { op: "", errno: Errno.ECANCELED, kernelMessage: "the kernel gave no answer" };

function firstErrorThrown(outcomes: readonly Outcome[]): Message[][] {
  if (outcomes.every(({ errno }) => errno === 0)) return outcomes.map(({ messages }) => messages);
  // A refusal explains the requests that got no answer, so it goes before them.
  const refusals = outcomes.flatMap(({ refusal }) => refusal ?? []);
  const refusal = refusals.find(({ errno }) => errno !== Errno.ECANCELED) ?? refusals[0];
  const succeeded = outcomes.flatMap((outcome, index) => (outcome.errno === 0 ? [index] : []));
  throw new NetlinkError({ ...(refusal ?? noAnswer), succeeded });
}

function withOp<T>(op: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    return rethrow(op, error);
  }
}

/** A system call's own failure, as distinct from what the kernel answered. */
function rethrow(op: string, error: unknown): never {
  const errno = error instanceof Error && "errno" in error ? error.errno : undefined;
  if (typeof errno !== "number") throw error;
  throw new NetlinkError({ errno, op, cause: error });
}
