import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import type { Outcome } from "#cni/plugin.ts";
import type { Log } from "#machine/log.ts";
import {
  accepted,
  bodyBytes,
  decodeHeader,
  decodeRequest,
  encodeOutcome,
  headerBytes,
  type Request,
  type RequestHeader,
  refused,
} from "./protocol.ts";

/** A connection that sends no whole request within this time is closed. */
const requestTimeoutMs = 10_000;

export interface ServerOptions {
  /** False for a request that would be carried out in the wrong place here: the caller does it itself then. */
  readonly accepts: (request: Request) => boolean;
  /** Owner of the process at the other end, or undefined where the kernel does not say. */
  readonly peerUid: (socket: Socket) => number | undefined;
  readonly allowedUids: readonly number[];
  /** Carries a request out; never throws. `signal` aborts when the caller has gone or its deadline has passed. */
  readonly serve: (request: Request, signal: AbortSignal) => Promise<Outcome>;
  readonly log: Log;
}

/** Accepts requests on a unix socket (netd/protocol.ts) until it is closed. */
export class RequestServer {
  readonly #options: ServerOptions;
  readonly #server: Server;
  readonly #running = new Set<Promise<void>>();
  #closing = false;
  /** Requests served since the start. */
  served = 0;
  /** When the last request ended, in `Date.now()`'s milliseconds. */
  lastActiveMs = Date.now();

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#connection(socket));
  }

  get active(): number {
    return this.#running.size;
  }

  /** Listens on a path, replacing a stale socket there: the caller holds the lock that makes it the only one. */
  async listen(path: string): Promise<void> {
    rmSync(path, { force: true, recursive: true });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ path, backlog: 1024 }, resolve);
    });
    chmodSync(path, 0o600);
  }

  /** Listens on a socket that systemd opened (sd_listen_fds(3)). */
  async listenFd(fd: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen({ fd }, resolve);
    });
  }

  /** Refuses new requests and waits for the running ones. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#server.close();
    await Promise.allSettled(this.#running);
  }

  #connection(socket: Socket): void {
    const { log } = this.#options;
    const chunks: Buffer[] = [];
    let received = 0;
    let header: RequestHeader | undefined;
    // The caller may go at any time; its request then ends by the signal, not by this error.
    socket.on("error", (error) => log.debug("connection failed", { error: error.message }));
    socket.setTimeout(requestTimeoutMs, () => socket.destroy());
    const uid = this.#options.peerUid(socket);
    if (uid === undefined || !this.#options.allowedUids.includes(uid)) {
      log.warn("refused a caller", { uid });
      socket.end(refused);
      return;
    }
    const onData = (chunk: Buffer) => {
      chunks.push(chunk);
      received += chunk.length;
      if (received < headerBytes) return;
      const bytes = chunks.length === 1 ? chunk : Buffer.concat(chunks);
      try {
        header ??= decodeHeader(bytes);
      } catch (error) {
        log.warn("refused a request", { error: String(error) });
        socket.end(refused);
        socket.off("data", onData);
        return;
      }
      if (received < headerBytes + bodyBytes(header)) {
        chunks.splice(0, chunks.length, bytes);
        return;
      }
      socket.off("data", onData);
      socket.setTimeout(0);
      this.#request(socket, decodeRequest(header, bytes.subarray(headerBytes)));
    };
    socket.on("data", onData);
  }

  #request(socket: Socket, request: Request): void {
    const { accepts, serve } = this.#options;
    if (this.#closing || !accepts(request)) {
      socket.end(refused);
      return;
    }
    const abort = new AbortController();
    const withdraw = () => abort.abort(new Error("the caller closed its connection"));
    socket.on("end", withdraw);
    socket.on("close", withdraw);
    socket.resume();
    const deadline = setTimeout(
      () => abort.abort(new Error(`the caller's deadline of ${request.timeoutMs} ms has passed`)),
      Math.max(request.timeoutMs - 100, 1),
    );
    socket.write(accepted);
    const done = serve(request, abort.signal)
      .then((outcome) => {
        if (!socket.destroyed) socket.end(encodeOutcome(outcome));
      })
      .finally(() => {
        clearTimeout(deadline);
        this.served += 1;
        this.lastActiveMs = Date.now();
        this.#running.delete(done);
      });
    this.#running.add(done);
  }
}
