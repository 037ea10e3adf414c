import { readFileSync, statSync } from "node:fs";
import {
  type ClientRequest,
  type IncomingMessage,
  Agent as PlainAgent,
  request as plainRequest,
} from "node:http";
import { Agent as SecureAgent, request as secureRequest } from "node:https";
import { EngineError } from "#engine/error.ts";
import { IoError } from "#machine/io-error.ts";
import { transportWords } from "./failure-words.ts";
import type { EtcdSettings } from "./settings.ts";

/** An answer of etcd's that is an error, by the gRPC code in it. */
export class GatewayError extends Error {
  override readonly name: string = "GatewayError";
  /** @see https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
  readonly grpcCode: number;

  constructor(grpcCode: number, message: string) {
    super(message);
    this.grpcCode = grpcCode;
  }
}

/** The connection broke, or nothing came in time. */
export class TransportError extends Error {
  override readonly name: string = "TransportError";
  /** Whether etcd may have got the request: then nobody knows whether it was carried out. */
  readonly wasSent: boolean;

  constructor(endpoint: string, wasSent: boolean, cause: unknown) {
    super(`${endpoint}: ${transportWords(cause)}`, { cause });
    this.wasSent = wasSent;
  }
}

/** Larger answers are not read: no list of ours has one. */
const maxAnswerBytes = 64 * 1024 * 1024;

/**
 * etcd's JSON gateway (https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/) over HTTP/1.1: one POST for a call, one
 * POST with an endless answer for a watch. Knows nothing of what the calls mean.
 */
export class Gateway {
  readonly #settings: EtcdSettings;
  /** The endpoint that answered last. */
  #current = 0;
  #agent: PlainAgent | SecureAgent | undefined;
  #tlsSeen = "";
  #token: Promise<string> | undefined;

  constructor(settings: EtcdSettings) {
    if (settings.endpoints.length === 0)
      throw new EngineError("invalid", "Cannot use etcd: no endpoint is given");
    for (const endpoint of settings.endpoints) checkEndpoint(endpoint);
    this.#settings = settings;
  }

  get endpoints(): readonly string[] {
    return this.#settings.endpoints;
  }

  close(): void {
    this.#agent?.destroy();
  }

  /** Ends all connections; calls that wait fail, streams end. */
  reconnect(): void {
    this.#agent?.destroy();
    this.#agent = undefined;
    this.#token = undefined;
  }

  /**
   * One call at the endpoint that answered last, else at the next ones. A call that was sent and not answered goes to
   * no other endpoint if `isWrite`, since it may have been carried out.
   * @throws {GatewayError} {TransportError}
   */
  async call(path: string, body: unknown, { isWrite = false }: { isWrite?: boolean } = {}): Promise<unknown> {
    let last: unknown;
    const count = this.#settings.endpoints.length;
    for (let attempt = 0; attempt < count; attempt++) {
      const index = (this.#current + attempt) % count;
      const endpoint = this.#settings.endpoints[index] ?? "";
      try {
        const answer = await this.callAt(endpoint, path, body);
        this.#current = index;
        return answer;
      } catch (error) {
        last = error;
        if (error instanceof TransportError && error.wasSent && isWrite) throw error;
        if (error instanceof GatewayError && !isOfThisMember(error)) throw error;
        // It was proposed, and may be agreed on as soon as there is a majority again.
        if (error instanceof GatewayError && isWrite && !error.message.includes("no leader"))
          throw new TransportError(endpoint, true, error);
      }
    }
    throw last;
  }

  /** One call at one endpoint. */
  async callAt(endpoint: string, path: string, body: unknown): Promise<unknown> {
    const token = await this.#authorization(endpoint);
    try {
      return await this.#post(endpoint, path, body, token);
    } catch (error) {
      // A token ends after five minutes without use, or with the member that gave it.
      if (
        !(error instanceof GatewayError) ||
        !/invalid auth token|auth token|etcdserver: invalid auth/.test(error.message)
      )
        throw error;
      this.#token = undefined;
      return await this.#post(endpoint, path, body, await this.#authorization(endpoint));
    }
  }

  async #authorization(endpoint: string): Promise<string | undefined> {
    const { user } = this.#settings;
    if (!user) return undefined;
    this.#token ??= this.#post(endpoint, "/v3/auth/authenticate", user).then((answer) => {
      const { token } = answer as { token?: string };
      if (!token)
        throw new EngineError(
          "denied",
          `Cannot log in to etcd as ${JSON.stringify(user.name)}: no token was given`,
        );
      return token;
    });
    try {
      return await this.#token;
    } catch (error) {
      this.#token = undefined;
      throw error;
    }
  }

  async #post(endpoint: string, path: string, body: unknown, token?: string): Promise<unknown> {
    const timeoutMs = this.#settings.requestTimeoutMs ?? 5000;
    const { response, request } = await this.#send(endpoint, path, body, token, timeoutMs);
    const text = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(
        () => request.destroy(new Error(`no answer within ${timeoutMs} ms`)),
        timeoutMs,
      );
      const pieces: Buffer[] = [];
      let size = 0;
      response.on("data", (piece: Buffer) => {
        pieces.push(piece);
        size += piece.length;
        if (size > maxAnswerBytes)
          request.destroy(new Error(`an answer of more than ${maxAnswerBytes} bytes`));
      });
      response.on("error", (error) => {
        clearTimeout(timer);
        reject(new TransportError(endpoint, true, error));
      });
      response.on("end", () => {
        clearTimeout(timer);
        resolve(Buffer.concat(pieces).toString("utf8"));
      });
    });
    return readAnswer(endpoint, response.statusCode ?? 0, text);
  }

  /** An answer that does not end, line by line. The caller destroys what it gets. @throws {GatewayError} {TransportError} */
  async stream(
    path: string,
    body: unknown,
  ): Promise<{ readonly response: IncomingMessage; readonly close: () => void }> {
    let last: unknown;
    const count = this.#settings.endpoints.length;
    for (let attempt = 0; attempt < count; attempt++) {
      const index = (this.#current + attempt) % count;
      const endpoint = this.#settings.endpoints[index] ?? "";
      try {
        const token = await this.#authorization(endpoint);
        const { response, request } = await this.#send(
          endpoint,
          path,
          body,
          token,
          this.#settings.requestTimeoutMs ?? 5000,
        );
        if (response.statusCode === 200) {
          this.#current = index;
          return { response, close: () => request.destroy() };
        }
        request.destroy();
        last = new TransportError(endpoint, true, new Error(`HTTP status ${response.statusCode}`));
      } catch (error) {
        last = error;
      }
    }
    throw last;
  }

  /** The next call begins with another endpoint: this one has no leader, or has stopped to answer. */
  turnAway(): void {
    this.#current = (this.#current + 1) % this.#settings.endpoints.length;
  }

  /** Resolves with the head of the answer. */
  #send(
    endpoint: string,
    path: string,
    body: unknown,
    token: string | undefined,
    timeoutMs: number,
  ): Promise<{ readonly response: IncomingMessage; readonly request: ClientRequest }> {
    const text = JSON.stringify(body);
    const url = new URL(path, endpoint);
    const headers = {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(text),
      // etcd's clientv3.WithRequireLeader: a member that has lost its leader says so, and does not stay silent for ever.
      "grpc-metadata-hasleader": "true",
      ...(token === undefined ? {} : { authorization: token }),
    };
    const start = url.protocol === "https:" ? secureRequest : plainRequest;
    return new Promise((resolve, reject) => {
      let wasSent = false;
      const request = start(url, { method: "POST", headers, agent: this.#agentFor(url.protocol) });
      const connectTimer = setTimeout(
        () => request.destroy(new Error("no connection in time")),
        this.#settings.connectTimeoutMs ?? 2000,
      );
      const answerTimer = setTimeout(
        () => request.destroy(new Error(`no answer within ${timeoutMs} ms`)),
        timeoutMs,
      );
      const done = () => {
        clearTimeout(connectTimer);
        clearTimeout(answerTimer);
      };
      request.on("socket", (socket) => {
        const connected = () => {
          clearTimeout(connectTimer);
          wasSent = true;
        };
        if (socket.connecting)
          socket.once(url.protocol === "https:" ? "secureConnect" : "connect", connected);
        else connected();
      });
      request.on("error", (error) => {
        done();
        reject(new TransportError(endpoint, wasSent, error));
      });
      request.on("response", (response) => {
        done();
        resolve({ response, request });
      });
      request.end(text);
    });
  }

  #agentFor(protocol: string): PlainAgent | SecureAgent {
    const { tls } = this.#settings;
    const files = [tls?.ca, tls?.cert, tls?.key].filter((path) => path !== undefined);
    const seen = protocol + files.map(stamp).join();
    if (this.#agent && this.#tlsSeen === seen) return this.#agent;
    // What goes on with the old certificate goes on; new connections are made with the new one.
    const options = { keepAlive: true, maxSockets: 64, timeout: 0 };
    this.#agent =
      protocol === "https:"
        ? new SecureAgent({
            ...options,
            ...(tls?.ca && { ca: readPem(tls.ca) }),
            ...(tls?.cert && { cert: readPem(tls.cert) }),
            ...(tls?.key && { key: readPem(tls.key) }),
          })
        : new PlainAgent(options);
    this.#tlsSeen = seen;
    return this.#agent;
  }
}

/** gRPC's Unavailable: no leader here, or the member is stopping. Another one may do. */
function isOfThisMember(error: GatewayError): boolean {
  return error.grpcCode === 14;
}

function checkEndpoint(endpoint: string): void {
  const { protocol } = URL.canParse(endpoint) ? new URL(endpoint) : { protocol: "" };
  if (protocol !== "http:" && protocol !== "https:")
    throw new EngineError(
      "invalid",
      `Cannot use etcd endpoint ${JSON.stringify(endpoint)}: expected http://HOST:PORT or https://HOST:PORT`,
    );
}

function stamp(path: string): string {
  try {
    const { mtimeMs, ino, size } = statSync(path);
    return `${mtimeMs}/${ino}/${size}`;
  } catch {
    return "";
  }
}

function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new EngineError("denied", new IoError("read", path, cause).message, { cause });
  }
}

function readAnswer(endpoint: string, status: number, text: string): unknown {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch (cause) {
    throw new TransportError(endpoint, true, new Error(`HTTP status ${status}, and no JSON`, { cause }));
  }
  if (status === 200) return answer;
  const { code, error, message } = (answer ?? {}) as { code?: number; error?: string; message?: string };
  throw new GatewayError(code ?? 2, message ?? error ?? `HTTP status ${status}`);
}
