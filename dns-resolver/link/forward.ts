import type { Asker } from "#dns-resolver/asker.ts";
import type { Handler, Outcome, Reply, Source } from "#dns-resolver/chain.ts";
import type { EventLoop } from "#dns-resolver/event-loop.ts";
import type { Timer } from "#dns-resolver/timers.ts";
import {
  compareQuestion,
  encodeQuestion,
  type Question,
  questionOf,
} from "#dns-resolver/upstream/exchange.ts";
import type { Abandonable, UpstreamGroup } from "#dns-resolver/upstream/group.ts";
import type { Cached, ResponseCache } from "#dns-resolver/upstream/response-cache.ts";
import type { UpstreamServer } from "#dns-resolver/upstream/server.ts";
import { type Expecting, pickSocket } from "#dns-resolver/upstream/socket.ts";
import { TcpExchange } from "#dns-resolver/upstream/tcp.ts";
import { Rcode, rcodeName } from "#dns-resolver/wire/numbers.ts";
import type { Query } from "#dns-resolver/wire/query.ts";
import { parseResponse, type Response } from "#dns-resolver/wire/response.ts";
import { failure, noSuchName } from "./authority.ts";
import { cacheKey, fromCached } from "./cache.ts";

/** Whoever asks gives up after five seconds (resolv.conf(5), timeout), and shall have heard by then. */
const totalMs = 4800;
/** The next server is asked as well when one has not answered by then. */
const hedgeMs = 300;
/** After all have been asked, they are asked again, each time after twice as long: a datagram may be lost. */
const againMs = 700;
/** RFC 2308 section 5: a day at most for what is, an hour for what is not. */
const maxTtlSeconds = 86_400;
const maxNegativeTtlSeconds = 3600;
/** Failures are kept so long, so that a server which is in trouble is not asked by everybody in turn. */
const failureTtlMs = 1000;
const maxTries = 9;
/** No server is asked in the last moments: its answer would come too late. */
const lastTryMs = totalMs - 200;

/** Questions of one container that may be under way at once: what is lost of them is asked for again, by all servers. */
const maxForwardedPerAsker = 256;
/** Of all: beyond it only who has few of them may have another. */
const maxForwarded = 16_384;
const fewForwarded = 64;
/** Clients that wait for one and the same answer. */
const maxWaiters = 512;

/**
 * When servers are asked again, in milliseconds since the first was asked: each in turn, so many there are. The last
 * entry is when nobody waits any more.
 */
function timetable(servers: number): readonly number[] {
  const times: number[] = [];
  let at = 0;
  let pause = againMs;
  for (let index = 1; index < maxTries; index++) {
    const isNextRound = index % servers === 0;
    if (isNextRound && index > servers) pause *= 2;
    at += isNextRound ? pause : hedgeMs;
    if (at >= lastTryMs) break;
    times.push(at);
  }
  return [...times, totalMs];
}

const timetables = [1, 2, 3].map(timetable);

export interface ForwardOptions {
  readonly loop: EventLoop;
  readonly responses: ResponseCache;
  /** Told of what an operator wants to know. */
  readonly onTrouble: (message: string, fields: Readonly<Record<string, unknown>>) => void;
}

/** The end of the chain: asks the servers. Always replies, after five seconds at most. */
export function forward(options: ForwardOptions): Handler {
  const pending = new Map<string, Pending>();
  return (query: Query, asker: Asker, reply: Reply) => {
    const { upstreams } = asker;
    if (!upstreams) {
      reply(noSuchName(query, { kind: "internal" }));
      return;
    }
    if (upstreams.servers.length === 0) {
      reply(failure(query, Rcode.ServFail, "no server to forward to"));
      return;
    }
    const key = cacheKey(upstreams.key, query);
    const known = pending.get(key);
    const limit = limitReached(asker, known?.waiters ?? 0, known ? 0 : pending.size);
    if (limit !== undefined) {
      asker.load.refused += 1;
      reply(failure(query, Rcode.ServFail, limit));
      return;
    }
    asker.load.forwarded += 1;
    const answer: Reply = (outcome) => {
      asker.load.forwarded -= 1;
      reply(outcome);
    };
    if (known) {
      known.join(query, answer);
      return;
    }
    const started = new Pending(options, key, upstreams, query, () => pending.delete(key));
    pending.set(key, started);
    started.join(query, answer);
    started.begin();
  };
}

/** Why this container can't have another question under way; undefined: it can. */
function limitReached(asker: Asker, waiters: number, questions: number): string | undefined {
  if (asker.load.forwarded >= maxForwardedPerAsker)
    return `${maxForwardedPerAsker} questions of this container are under way, more are refused`;
  if (waiters >= maxWaiters) return `${maxWaiters} clients wait for this very answer, more are refused`;
  if (questions >= maxForwarded && asker.load.forwarded >= fewForwarded)
    return `${maxForwarded} questions of all containers are under way, ${fewForwarded} of this one; more are refused`;
  return undefined;
}

interface Waiter {
  readonly query: Query;
  readonly reply: Reply;
}

/** One question to the servers, and all who wait for the answer. */
class Pending implements Abandonable {
  readonly #options: ForwardOptions;
  readonly #key: string;
  readonly #group: UpstreamGroup;
  readonly #question: Question;
  readonly #name: string;
  readonly #onEnd: () => void;
  readonly #waiters: Waiter[] = [];
  readonly #open = new Set<Attempt>();
  readonly #order: readonly UpstreamServer[];
  readonly #startedMs: number;
  #timer: Timer | undefined;
  /** What comes in the next round, where the first server has failed in this one. */
  #soon: Timer | undefined;
  #tries = 0;
  #isOver = false;
  #isBeginning = false;
  /** What became of servers that gave no answer, by their address. */
  #failures: Map<string, string> | undefined;

  constructor(options: ForwardOptions, key: string, group: UpstreamGroup, query: Query, onEnd: () => void) {
    this.#options = options;
    this.#key = key;
    this.#group = group;
    this.#question = questionOf(query);
    this.#name = query.name;
    this.#onEnd = onEnd;
    group.pending.add(this);
    const now = options.loop.nowMs;
    this.#startedMs = now;
    // In the order in which they were given, as resolv.conf(5) promises; those in trouble last.
    this.#order = [
      ...group.servers.filter((server) => !server.isFailing(now)),
      ...group.servers.filter((server) => server.isFailing(now)),
    ];
  }

  get waiters(): number {
    return this.#waiters.length;
  }

  join(query: Query, reply: Reply): void {
    this.#waiters.push({ query, reply });
  }

  begin(): void {
    const [first] = this.#order;
    this.#plan(0);
    this.#isBeginning = true;
    if (first) this.#try(first);
    this.#isBeginning = false;
  }

  /** One timer at a time: most answers come before the first, and what is cancelled stays in the heap until it is due. */
  #plan(index: number): void {
    const { loop } = this.#options;
    const times = timetables[this.#order.length - 1] ?? [];
    const at = times[index] ?? totalMs;
    this.#timer = loop.after(this.#startedMs + at - loop.nowMs, () => {
      if (index >= times.length - 1) {
        this.#giveUp();
        return;
      }
      this.#plan(index + 1);
      const server = this.#order[(index + 1) % this.#order.length];
      if (server) this.#try(server);
    });
  }

  #try(server: UpstreamServer): void {
    if (this.#isOver) return;
    this.#tries += 1;
    this.#start(new Attempt(this, this.#options.loop, this.#group, server, this.#question), "udp");
  }

  #start(attempt: Attempt, by: "udp" | "tcp"): void {
    this.#open.add(attempt);
    try {
      attempt.start(by);
    } catch (error) {
      this.failed(attempt, error instanceof Error ? error.message : String(error));
    }
  }

  /** @param proof whether the question came back as it was sent */
  answered(attempt: Attempt, message: Uint8Array, proof: "same" | "case"): void {
    if (this.#isOver) return;
    const { server } = attempt;
    const response = parseResponse(message);
    const isDoubtful = proof === "case" && !server.changesCase;
    if (!attempt.isTcp && (isDoubtful || response?.isTruncated)) {
      // Over TCP nobody can forge it, and everything fits.
      if (isDoubtful) server.changesCase = true;
      this.#open.delete(attempt);
      attempt.end();
      this.#start(new Attempt(this, this.#options.loop, this.#group, server, this.#question), "tcp");
      return;
    }
    if (!response) {
      this.failed(attempt, "its answer is malformed");
      return;
    }
    const { rcode } = response;
    if ((rcode === Rcode.FormErr || rcode === Rcode.NotImp) && !server.lacksEdns) {
      this.notUnderstood(attempt);
      return;
    }
    if (rcode !== Rcode.NoError && rcode !== Rcode.NxDomain) {
      this.failed(attempt, rcodeName(rcode));
      return;
    }
    server.answered();
    this.#end(attempt, response);
  }

  /** Asks the same server again without EDNS, if it was with. */
  notUnderstood(attempt: Attempt): void {
    if (this.#isOver) return;
    const { server } = attempt;
    if (server.lacksEdns) {
      this.failed(attempt, rcodeName(Rcode.FormErr));
      return;
    }
    server.lacksEdns = true;
    this.#open.delete(attempt);
    attempt.end();
    this.#try(server);
  }

  failed(attempt: Attempt, reason: string): void {
    if (this.#isOver) return;
    const { loop, onTrouble } = this.#options;
    const { server } = attempt;
    this.#open.delete(attempt);
    attempt.end();
    server.failed(loop.nowMs);
    (this.#failures ??= new Map()).set(server.text, reason);
    onTrouble("server failed", { server: server.text, name: this.#name, reason });
    if (this.#open.size > 0) return;
    // Nobody is left to wait for: the next at once, and after the last the answer.
    const next = this.#order[this.#tries];
    const again = () => {
      if (next) this.#try(next);
      else this.#giveUp();
    };
    if (this.#isBeginning) this.#soon = loop.after(0, again);
    else again();
  }

  abandon(): void {
    this.#giveUp("its servers are asked no more");
  }

  #end(attempt: Attempt, response: Response): void {
    const { loop, responses } = this.#options;
    const now = loop.nowMs;
    const isNegative = response.rcode === Rcode.NxDomain || response.bytes[7] === 0;
    const most = isNegative ? maxNegativeTtlSeconds : maxTtlSeconds;
    const cached: Cached = {
      response,
      server: attempt.server.text,
      bornMs: now,
      untilMs: now + Math.min(response.ttlSeconds, most) * 1000,
    };
    if (cached.untilMs > now) responses.put(this.#key, cached);
    const ms = Math.round((now - this.#startedMs) * 10) / 10;
    const source: Source = { kind: "upstream", server: cached.server, ms, tries: this.#tries };
    this.#finish((query) => fromCached(query, cached, now, source));
  }

  /** @param why in place of what became of each server */
  #giveUp(why = this.#becameOfServers()): void {
    if (this.#isOver) return;
    const { loop, onTrouble } = this.#options;
    for (const { server } of this.#open) server.failed(loop.nowMs);
    onTrouble("not answered", { name: this.#name, tries: this.#tries, reason: why });
    this.#finish((query) => {
      const outcome = failure(query, Rcode.ServFail, why);
      const { message } = outcome;
      const untilMs = loop.nowMs + failureTtlMs;
      return { ...outcome, keep: { untilMs, variants: [message], ttlOffsets: [], bornMs: loop.nowMs } };
    });
  }

  #becameOfServers(): string {
    const silence = `no answer within ${totalMs / 1000} s`;
    return this.#order.map(({ text }) => `${text}: ${this.#failures?.get(text) ?? silence}`).join("; ");
  }

  #finish(outcomeFor: (query: Query) => Outcome): void {
    this.#isOver = true;
    this.#timer?.cancel();
    this.#soon?.cancel();
    for (const attempt of this.#open) attempt.end();
    this.#open.clear();
    this.#group.pending.delete(this);
    this.#onEnd();
    for (const { query, reply } of this.#waiters.splice(0)) reply(outcomeFor(query));
  }
}

/** The question to one server, once. */
class Attempt implements Expecting {
  readonly server: UpstreamServer;
  readonly #pending: Pending;
  readonly #loop: EventLoop;
  readonly #group: UpstreamGroup;
  readonly #question: Question;
  readonly #message: Uint8Array;
  #stop: () => void = () => {};
  isTcp = false;

  constructor(
    pending: Pending,
    loop: EventLoop,
    group: UpstreamGroup,
    server: UpstreamServer,
    question: Question,
  ) {
    this.#pending = pending;
    this.#loop = loop;
    this.#group = group;
    this.server = server;
    this.#question = question;
    this.#message = encodeQuestion(question, {
      withEdns: !server.lacksEdns,
      withCase: !server.changesCase,
    });
  }

  /** @throws Node's error */
  start(by: "udp" | "tcp"): void {
    this.isTcp = by === "tcp";
    if (this.isTcp) {
      const exchange = new TcpExchange(this.#loop, this.#group, this.server, this.#message, this);
      this.#stop = () => exchange.close();
      return;
    }
    const socket = pickSocket(this.#loop, this.#group, this.server);
    const id = socket.send(this.#message, this);
    // Of a group that is not asked any more it is closed with this question.
    if (this.#group.isClosed) socket.retire();
    if (id < 0) throw new Error("too many questions under way");
    this.#stop = () => socket.forget(id);
  }

  answered(message: Uint8Array): void {
    const proof = compareQuestion(this.#message, this.#question.bytes.length, message);
    if (proof === "other") {
      // Somebody guesses; but who does not know EDNS may answer FORMERR and not repeat the question.
      const isPlainRefusal =
        message.length >= 12 && ((message[3] ?? 0) & 0x0f) === Rcode.FormErr && message[5] === 0;
      if (isPlainRefusal) this.#pending.notUnderstood(this);
      else if (this.isTcp) this.#pending.failed(this, "it answers another question");
      return;
    }
    this.#pending.answered(this, message, proof);
  }

  failed(reason: string): void {
    this.#pending.failed(this, reason);
  }

  end(): void {
    this.#stop();
    this.#stop = () => {};
  }
}
