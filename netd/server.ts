import { createServer, type Server, type Socket } from "node:net";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { Outcome } from "#cni/plugin.ts";
import { fail } from "#cni/skel.ts";
import type { Log } from "#machine/log.ts";
import { hasHungUp, peerUid } from "./peer.ts";
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
  #closing = false;
  #served = 0;
  #lastActiveMs = performance.now();

  constructor(options: ServerOptions) {
    this.#options = options;
    // Whoever closes the writing half withdraws its request; the answer is for those who have not.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#connection(socket));
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
    const { log, allowedUids, requestTimeoutMs = defaultRequestTimeoutMs } = this.#options;
    const reader = new RequestReader();
    const timer = setTimeout(() => socket.destroy(), requestTimeoutMs);
    const refuse = (reason: string, fields: Readonly<Record<string, unknown>>) => {
      log.warn(reason, fields);
      clearTimeout(timer);
      socket.off("data", onData);
      end(socket, refused);
    };
    const onData = (piece: Buffer) => {
      let request: Request | undefined;
      try {
        request = reader.push(piece);
      } catch (error) {
        refuse("refused a request", { error: String(error) });
        return;
      }
      if (!request) return;
      clearTimeout(timer);
      socket.off("data", onData);
      this.#request(socket, request);
    };
    // The caller may go at any time; its request then ends by the signal, not by this error.
    socket.on("error", (error) => log.debug("connection failed", { error: error.message }));
    socket.once("close", () => clearTimeout(timer));
    const uid = peerUid(socket);
    if (uid === undefined || !allowedUids.includes(uid)) refuse("refused a caller", { uid });
    else socket.on("data", onData).once("end", () => socket.end());
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
    socket.write(accepted);
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    const { promise: answered, resolve: answer } = withResolver<Outcome>();
    const ended = answered.then((outcome) => {
      clearTimeout(deadline);
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
  socket.setTimeout(answerTimeoutMs, () => socket.destroy());
  socket.end(bytes);
  socket.destroySoon();
}
