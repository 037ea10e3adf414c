import { createServer, type Server, type Socket } from "node:net";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { Outcome } from "#cni/plugin.ts";
import { fail } from "#cni/skel.ts";
import type { Log } from "#machine/log.ts";
import { hasHungUp, peerUid, receiveNow, sendNow } from "./peer.ts";
import { accepted, encodeOutcome, type Request, refused } from "./protocol.ts";
import { RequestReader } from "./request-reader.ts";

/** A connection that has not sent a whole request by then is closed. */
const defaultRequestTimeoutMs = 10_000;
/** A caller that does not take its answer by then loses it. */
const answerTimeoutMs = 10_000;
/** So that the answer is there before the caller stops waiting for it. */
const answerAheadMs = 100;
/** What setTimeout(3) of Node takes. */
const maxTimeoutMs = 2 ** 31 - 1;
const backlog = 1024;
/** What is longer comes in pieces. */
const inputBytes = 64 * 1024;

/** The process that waits for an answer. */
export interface Caller {
  /** Aborts when it has gone or its deadline has passed, or on `cancel()`. */
  readonly signal: AbortSignal;
  cancel(reason: Error): void;
  /** Whether it still waits, as of this very moment. */
  isWaiting(): boolean;
}

export interface ServerOptions {
  /** False for a request that would be carried out in the wrong place here: the caller does it itself then. */
  readonly accepts: (request: Request) => boolean;
  readonly allowedUids: readonly number[];
  /** Carries a request out; never throws. */
  readonly serve: (request: Request, caller: Caller) => Promise<Outcome>;
  readonly log: Log;
  readonly requestTimeoutMs?: number;
}

interface Running {
  /** The first answer counts. */
  readonly answer: (outcome: Outcome) => void;
  /** When it is answered and the connection closed. */
  readonly ended: Promise<void>;
}

/** Accepts requests on a unix socket (netd/protocol.ts) until it is closed. */
export class RequestServer {
  readonly #options: ServerOptions;
  readonly #server: Server;
  readonly #running = new Set<Running>();
  /** For what a caller has sent by the time that its connection is accepted; read and done with at once. */
  readonly #input = Buffer.allocUnsafeSlow(inputBytes);
  #closing = false;
  #served = 0;
  #lastActiveMs = performance.now();

  constructor(options: ServerOptions) {
    this.#options = options;
    // Whoever closes the writing half withdraws its request; the answer is for those who have not.
    const sockets = { allowHalfOpen: true, pauseOnConnect: true };
    this.#server = createServer(sockets, (socket) => this.#connection(socket));
    // EMFILE and the like: that caller is gone, others may do.
    this.#server.on("error", (error) => options.log.error("cannot accept a connection", { error }));
  }

  /** Requests that are carried out, or whose answer is not delivered yet. */
  get active(): number {
    return this.#running.size;
  }

  /** Requests accepted since the start. */
  get served(): number {
    return this.#served;
  }

  /** For how long there was nothing to do. */
  get idleMs(): number {
    return this.active > 0 ? 0 : performance.now() - this.#lastActiveMs;
  }

  /** @param at a path where nothing is, or an open socket that systemd handed over (sd_listen_fds(3)) */
  async listen(at: { readonly path: string } | { readonly fd: number }): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen("fd" in at ? at : { ...at, backlog }, () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
  }

  /** Refuses new requests from now on, and waits until those that run are answered. */
  async close(): Promise<void> {
    this.refuse();
    await Promise.all([...this.#running].map(({ ended }) => ended));
  }

  /** Refuses new requests from now on: their callers carry them out themselves. */
  refuse(): void {
    this.#closing = true;
    this.#server.close();
  }

  /** Answers all that still run with `outcome`, whatever becomes of them. */
  async abandon(outcome: Outcome): Promise<void> {
    const rest = [...this.#running];
    for (const { answer } of rest) answer(outcome);
    await Promise.all(rest.map(({ ended }) => ended));
  }

  #connection(socket: Socket): void {
    const { log, allowedUids } = this.#options;
    // The caller may go at any time; its request then ends by the signal, not by this error.
    socket.on("error", (error) => log.debug("connection failed", { error: error.message }));
    const uid = peerUid(socket);
    if (uid === undefined || !allowedUids.includes(uid)) {
      this.#refuse(socket, "refused a caller", { uid });
      return;
    }
    const reader = new RequestReader();
    // As a rule all of it is there by now: to wait for the event would take longer than what most requests do.
    const size = receiveNow(socket, this.#input);
    const request = size > 0 ? this.#push(socket, reader, this.#input.subarray(0, size)) : undefined;
    if (request === "refused") return;
    if (request) this.#request(socket, request);
    else this.#readOn(socket, reader);
  }

  /** For a request that comes in pieces. */
  #readOn(socket: Socket, reader: RequestReader): void {
    const { requestTimeoutMs = defaultRequestTimeoutMs } = this.#options;
    const timer = setTimeout(() => socket.destroy(), requestTimeoutMs);
    const onData = (piece: Buffer) => {
      const request = this.#push(socket, reader, piece);
      if (!request) return;
      clearTimeout(timer);
      socket.off("data", onData);
      if (request !== "refused") this.#request(socket, request);
    };
    socket.once("close", () => clearTimeout(timer));
    socket.on("data", onData).once("end", () => socket.end());
    socket.resume();
  }

  #push(socket: Socket, reader: RequestReader, piece: Buffer): Request | undefined | "refused" {
    try {
      return reader.push(piece);
    } catch (error) {
      this.#refuse(socket, "refused a request", { error: String(error) });
      return "refused";
    }
  }

  #refuse(socket: Socket, reason: string, fields: Readonly<Record<string, unknown>>): void {
    this.#options.log.warn(reason, fields);
    // What it still sends is read and dropped: closed over that, the connection would lose the answer.
    socket.setTimeout(answerTimeoutMs, () => socket.destroy());
    socket.once("end", () => socket.destroy());
    socket.resume();
    socket.end(refused);
  }

  #request(socket: Socket, request: Request): void {
    const { accepts, serve } = this.#options;
    // After a stop (SIGSTOP) there may be requests whose callers have long done the work themselves.
    if (this.#closing || hasHungUp(socket) || !accepts(request)) {
      end(socket, refused);
      return;
    }
    const abort = new AbortController();
    const withdraw = () => abort.abort(withdrawn("the caller has closed its connection"));
    const deadline = setTimeout(
      () => abort.abort(withdrawn(`the caller's deadline of ${request.timeoutMs} ms has passed`)),
      Math.min(Math.max(request.timeoutMs - answerAheadMs, 1), maxTimeoutMs),
    );
    socket.once("end", withdraw);
    socket.once("close", withdraw);
    socket.on("data", () => socket.destroy());
    if (sendNow(socket, accepted) === 0) socket.write(accepted);
    // Whether the caller goes is of no interest before the work waits for something.
    const listening = setImmediate(() => socket.resume());
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    const { promise: answered, resolve: answer } = withResolver<Outcome>();
    const ended = answered.then((outcome) => {
      clearTimeout(deadline);
      clearImmediate(listening);
      socket.off("end", withdraw).off("close", withdraw);
      end(socket, encode(outcome));
      return closed;
    });
    const running: Running = { answer, ended };
    this.#running.add(running);
    this.#served += 1;
    void ended.then(() => {
      this.#running.delete(running);
      this.#lastActiveMs = performance.now();
    });
    const isWaiting = () => {
      if (!abort.signal.aborted && hasHungUp(socket)) withdraw();
      return !abort.signal.aborted;
    };
    const cancel = (reason: Error) => abort.abort(reason);
    void serve(request, { signal: abort.signal, cancel, isWaiting }).then(answer);
  }
}

function withResolver<Value>() {
  let resolve: (value: Value) => void = () => {};
  const promise = new Promise<Value>((settle) => (resolve = settle));
  return { promise, resolve };
}

function withdrawn(reason: string): CniError {
  return new CniError(ErrorCode.TryAgainLater, `Cannot go on: ${reason}`);
}

function encode(outcome: Outcome): Buffer {
  try {
    return encodeOutcome(outcome);
  } catch (error) {
    return encodeOutcome(fail(error));
  }
}

/** Writes the last that there is to say, and closes, whatever the other side does. */
function end(socket: Socket, bytes: Buffer): void {
  const sent = sendNow(socket, bytes);
  if (sent === bytes.length) {
    socket.destroy();
    return;
  }
  socket.setTimeout(answerTimeoutMs, () => socket.destroy());
  socket.end(bytes.subarray(sent));
  socket.destroySoon();
}
