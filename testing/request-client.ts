import { connect, type Socket } from "node:net";
import type { Outcome } from "#cni/plugin.ts";
import { decodeOutcome } from "#netd/protocol.ts";

/** A caller of netd that can do what no launcher does: send garbage, dawdle, go away in the middle. */
export class RequestClient {
  readonly socket: Socket;
  #received = Buffer.alloc(0);
  #isClosed = false;
  #waiting: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.socket = socket;
    const wake = () => this.#waiting.splice(0).forEach((each) => each());
    socket.on("data", (piece) => {
      this.#received = Buffer.concat([this.#received, piece]);
      wake();
    });
    socket.on("error", () => {});
    const onEnd = () => {
      this.#isClosed = true;
      wake();
    };
    socket.on("end", onEnd).on("close", onEnd);
  }

  static async open(path: string): Promise<RequestClient> {
    const socket = connect({ path, allowHalfOpen: true });
    const client = new RequestClient(socket);
    await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return client;
  }

  send(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** "A", "N", or "closed" where there was neither. */
  async verdict(): Promise<string> {
    while (this.#received.length === 0 && !this.#isClosed) await this.#more();
    return this.#received.length === 0 ? "closed" : this.#received.toString("latin1", 0, 1);
  }

  /** Undefined where the connection was closed without one. */
  async outcome(): Promise<Outcome | undefined> {
    for (;;) {
      const outcome = decodeOutcome(this.#received.subarray(1));
      if (outcome || this.#isClosed) return outcome;
      await this.#more();
    }
  }

  /** Until netd has closed the connection. */
  async closed(): Promise<void> {
    this.socket.end();
    while (!this.#isClosed) await this.#more();
  }

  #more(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
