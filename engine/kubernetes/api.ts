import { readFileSync } from "node:fs";
import {
  type ClientRequest,
  type IncomingMessage,
  Agent as PlainAgent,
  request as plainRequest,
} from "node:http";
import { Agent as SecureAgent, request as secureRequest } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { EngineError } from "#engine/error.ts";
import { IoError } from "#machine/io-error.ts";
import type { KubernetesSettings } from "./settings.ts";

/** An answer larger than this is no answer. */
const maxAnswerBytes = 256 * 1024 * 1024;
/** What is refused as too long is in the message that refuses it. */
const maxMessageLength = 500;
/** How often a request that the server is too busy for is sent again. */
const busyTries = 5;

/** The server has answered, and not with what was asked for: `Status` of its API. */
export class StatusError extends Error {
  override readonly name = "StatusError";
  readonly code: number;
  readonly reason: string;

  constructor(code: number, reason: string, message: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }

  /** No such object. A resource that is not served, or not yet, is a 404 as well, but without this reason. */
  get isNotFound(): boolean {
    return this.code === 404 && this.reason === "NotFound";
  }
}

/** No answer. `wasSent`: the server may have carried it out. `wasKept`: by a connection that had served others before. */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
  readonly wasSent: boolean;
  readonly wasKept: boolean;

  get isReset(): boolean {
    return this.cause instanceof Error && "code" in this.cause && this.cause.code === "ECONNRESET";
  }

  constructor(server: string, cause: Error, { wasSent = true, wasKept = false } = {}) {
    super(`${server}: ${cause.message}`, { cause });
    this.wasSent = wasSent;
    this.wasKept = wasKept;
  }
}

export type Method = "GET" | "POST" | "PUT" | "DELETE";

/** JSON over HTTP to an API server. */
export class KubernetesApi {
  readonly #settings: KubernetesSettings;
  #agent: PlainAgent | SecureAgent | undefined;
  #ca: string | undefined;

  /** @throws {EngineError} for settings that can't be right */
  constructor(settings: KubernetesSettings) {
    const { protocol } = URL.canParse(settings.server) ? new URL(settings.server) : { protocol: "" };
    if (protocol !== "http:" && protocol !== "https:")
      throw new EngineError(
        "invalid",
        `Cannot use API server ${JSON.stringify(settings.server)}: expected https://HOST:PORT`,
      );
    this.#settings = settings;
  }

  /** @throws {StatusError} {ConnectionError} {EngineError} */
  async call(method: Method, path: string, body?: object): Promise<unknown> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#call(method, path, body);
      } catch (error) {
        // A server that was started again has ended what was kept alive.
        const wasEnded = error instanceof ConnectionError && error.wasKept && error.isReset;
        if (method === "GET" && wasEnded && attempt < busyTries) continue;
        // Priority and fairness: the server says when it will have time. It has done nothing.
        if (!(error instanceof BusyError) || attempt === busyTries) throw error;
        await sleep(error.afterMs * (1 + Math.random()));
      }
    }
  }

  async #call(method: Method, path: string, body?: object): Promise<unknown> {
    const { response, request } = await this.#send(method, path, body);
    const { server, requestTimeoutMs = 5000 } = this.#settings;
    const timer = setTimeout(() => request.destroy(new Error("no answer in time")), requestTimeoutMs);
    try {
      const pieces: Buffer[] = [];
      let size = 0;
      for await (const piece of response as AsyncIterable<Buffer>) {
        pieces.push(piece);
        size += piece.length;
        if (size > maxAnswerBytes) throw new Error(`an answer of more than ${maxAnswerBytes} bytes`);
      }
      return readAnswer(response, Buffer.concat(pieces).toString("utf8"));
    } catch (error) {
      if (error instanceof StatusError) throw error;
      throw new ConnectionError(server, error instanceof Error ? error : new Error(String(error)));
    } finally {
      clearTimeout(timer);
    }
  }

  /** An answer that does not end; the caller closes it. @throws {StatusError} {ConnectionError} {EngineError} */
  async stream(path: string): Promise<{ readonly response: IncomingMessage; readonly close: () => void }> {
    const { response, request } = await this.#send("GET", path);
    if (response.statusCode !== 200) {
      let text = "";
      for await (const piece of response) text += String(piece);
      readAnswer(response, text);
    }
    return { response, close: () => request.destroy() };
  }

  reconnect(): void {
    this.#agent?.destroy();
    this.#agent = undefined;
  }

  #send(
    method: Method,
    path: string,
    body?: object,
  ): Promise<{ readonly response: IncomingMessage; readonly request: ClientRequest }> {
    const { server, requestTimeoutMs = 5000 } = this.#settings;
    const url = new URL(path, server);
    const text = body && JSON.stringify(body);
    const token = this.#token();
    const headers = {
      accept: "application/json",
      ...(text === undefined
        ? {}
        : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    };
    const start = url.protocol === "https:" ? secureRequest : plainRequest;
    return new Promise((resolve, reject) => {
      let wasSent = false;
      const request = start(url, { method, headers, agent: this.#agentFor(url.protocol) });
      const timer = setTimeout(() => request.destroy(new Error("no answer in time")), requestTimeoutMs);
      request.on("socket", (socket) => {
        if (!socket.connecting) wasSent = true;
        else
          socket.once(url.protocol === "https:" ? "secureConnect" : "connect", () => {
            wasSent = true;
          });
      });
      request.on("error", (error) => {
        clearTimeout(timer);
        reject(new ConnectionError(server, error, { wasSent, wasKept: request.reusedSocket }));
      });
      request.on("response", (response) => {
        clearTimeout(timer);
        resolve({ response, request });
      });
      request.end(text);
    });
  }

  /** Read for each request: kubelet replaces it every hour, and a page that is cached costs nothing. */
  #token(): string | undefined {
    const { tokenFile } = this.#settings;
    return tokenFile === undefined ? undefined : readText(tokenFile).trim();
  }

  #agentFor(protocol: string): PlainAgent | SecureAgent {
    const { caFile } = this.#settings;
    const ca = protocol === "https:" && caFile !== undefined ? readText(caFile) : undefined;
    if (this.#agent && ca === this.#ca) return this.#agent;
    this.#ca = ca;
    const options = { keepAlive: true, maxSockets: 16 };
    this.#agent =
      protocol === "https:"
        ? new SecureAgent({ ...options, ...(ca === undefined ? {} : { ca }) })
        : new PlainAgent(options);
    return this.#agent;
  }
}

class BusyError extends StatusError {
  readonly afterMs: number;

  constructor(afterSeconds: number, message: string) {
    super(429, "TooManyRequests", message);
    this.afterMs = afterSeconds * 1000;
  }
}

function readAnswer(response: IncomingMessage, text: string): unknown {
  const code = response.statusCode ?? 0;
  // In plain words, and no Status: it was said before anything looked at the request.
  if (code === 429)
    throw new BusyError(Number(response.headers["retry-after"] ?? 1) || 1, shortened(text.trim()));
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new StatusError(code, "", `HTTP status ${code}, and no JSON`);
  }
  if (code >= 200 && code < 300) return answer;
  const { reason = "", ...status } = answer as { reason?: string; message?: string };
  const message = shortened(status.message ?? `HTTP status ${code}`);
  throw new StatusError(code, reason, message);
}

function shortened(text: string): string {
  return text.length > maxMessageLength
    ? `${text.slice(0, maxMessageLength / 2)}…${text.slice(-maxMessageLength / 2)}`
    : text;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new EngineError("denied", new IoError("read", path, cause).message, { cause });
  }
}
