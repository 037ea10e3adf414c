import { type ClientHttp2Session, connect } from "node:http2";
import { createConnection } from "node:net";

/** What a server answered instead of a message. */
export class GrpcError extends Error {
  /** https://grpc.io/docs/guides/status-codes; 14 where there was no answer */
  readonly status: number;

  constructor(method: string, status: number, text: string) {
    super(`${method}: ${text || `gRPC status ${status}`}`);
    this.name = "GrpcError";
    this.status = status;
  }
}

/**
 * Unary gRPC calls over a unix socket: HTTP/2 with one length-prefixed message each way
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 */
export class GrpcClient {
  readonly #session: ClientHttp2Session;

  constructor(socketPath: string) {
    this.#session = connect("http://localhost", { createConnection: () => createConnection(socketPath) });
    // Each call hears of it by itself.
    this.#session.on("error", () => {});
  }

  /** @param method "/package.Service/Method" @throws {GrpcError} */
  async call(method: string, request: Uint8Array, timeoutMs = 120_000): Promise<Uint8Array> {
    return await new Promise((resolve, reject) => {
      const stream = this.#session.request({
        ":method": "POST",
        ":path": method,
        "content-type": "application/grpc",
        te: "trailers",
      });
      const chunks: Buffer[] = [];
      let [status, text] = [14, "the connection ended without an answer"];
      // An answer without a message has them among its headers.
      const note = (headers: Readonly<Record<string, unknown>>) => {
        if (headers["grpc-status"] === undefined) return;
        status = Number(headers["grpc-status"]);
        const said = headers["grpc-message"];
        text = typeof said === "string" ? decodeURIComponent(said) : "";
      };
      stream.on("response", note);
      stream.on("trailers", note);
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.setTimeout(timeoutMs, () => stream.destroy(new Error(`no answer within ${timeoutMs} ms`)));
      stream.on("error", (error) => reject(new GrpcError(method, 14, error.message)));
      stream.on("close", () => {
        const answer = Buffer.concat(chunks);
        if (status !== 0) reject(new GrpcError(method, status, text));
        else resolve(answer.subarray(5, 5 + answer.readUInt32BE(1)));
      });
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(request.length, 1);
      stream.end(Buffer.concat([prefix, request]));
    });
  }

  close(): void {
    this.#session.destroy();
  }
}
