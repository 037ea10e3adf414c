import { createServer, request, type Server } from "node:http";
import { request as secureRequest } from "node:https";

type What = "request" | "reply";

/** A way to an HTTP server that loses what a test tells it to, but for GET: the caller's connection is cut, as by a member that dies. */
export class LossyLink {
  readonly #server: Server;
  #what: What = "reply";
  #count = 0;
  #meanwhile: () => Promise<void> = () => Promise.resolve();

  private constructor(target: string, ca: Buffer | undefined) {
    const send = ca === undefined ? request : secureRequest;
    this.#server = createServer((incoming, outgoing) => {
      const pieces: Buffer[] = [];
      incoming.on("data", (piece: Buffer) => pieces.push(piece));
      incoming.on("end", () => {
        const { method, headers } = incoming;
        const loses = this.#count > 0 && method !== "GET" ? this.#what : undefined;
        if (loses) this.#count--;
        const cut = () => void this.#meanwhile().finally(() => incoming.socket.resetAndDestroy());
        if (loses === "request") return cut();
        const options = { method, headers, ...(ca && { ca }) };
        const onward = send(new URL(incoming.url ?? "/", target), options, (answer) => {
          if (loses === "reply") answer.resume().on("end", cut);
          else answer.pipe(outgoing.writeHead(answer.statusCode ?? 500, answer.headers));
        });
        onward.on("error", () => incoming.socket.destroy());
        onward.end(Buffer.concat(pieces));
      });
    });
  }

  /** @param ca of a target that speaks TLS; the callers don't */
  static async open(target: string, ca?: Buffer): Promise<LossyLink> {
    const link = new LossyLink(target, ca);
    await new Promise<void>((resolve) => link.#server.listen(0, "127.0.0.1", resolve));
    return link;
  }

  get url(): string {
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
  }

  /** The next requests never arrive, or are carried out and their replies never come; what is done in between. */
  lose(what: What, count: number, meanwhile: () => Promise<void> = () => Promise.resolve()): void {
    this.#what = what;
    this.#count = count;
    this.#meanwhile = meanwhile;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
