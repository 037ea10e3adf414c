import type { EventLoop, Watched } from "#dns-resolver/event-loop.ts";
import { copyBytes } from "#dns-resolver/wire/copy.ts";
import { native, PollEvent } from "#native/addon.ts";
import type { UpstreamGroup } from "./group.ts";
import type { UpstreamServer } from "./server.ts";
import { type Expecting, openSocket } from "./socket.ts";

const again = -11;
/** include/uapi/linux/in.h, include/uapi/linux/tcp.h: in ms */
const IPPROTO_TCP = 6;
const TCP_USER_TIMEOUT = 18;

/** One question over TCP, on a connection of its own. */
export class TcpExchange {
  readonly #loop: EventLoop;
  readonly #watched: Watched;
  readonly #expecting: Expecting;
  #rest: Uint8Array;
  #received = Buffer.alloc(0);
  #isOver = false;

  /** @throws Node's error where no connection can be begun */
  constructor(
    loop: EventLoop,
    group: UpstreamGroup,
    server: UpstreamServer,
    message: Uint8Array,
    expecting: Expecting,
  ) {
    this.#loop = loop;
    this.#expecting = expecting;
    this.#rest = Buffer.concat([Uint8Array.of(message.length >> 8, message.length & 0xff), message]);
    this.#watched = loop.addStream(openSocket(group, server, true), (events) => this.#step(events));
    loop.watch(this.#watched, { input: false, output: true });
  }

  /** Before it has been answered. */
  close(): void {
    if (this.#isOver) return;
    try {
      // What the server has not taken yet would be sent again and again for two minutes, and keep a container's namespace
      // as long. Now the next time is the last.
      native().socketOption(this.#watched.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 1);
    } catch {
      // Then it ends later.
    }
    this.#end();
  }

  #end(): void {
    this.#isOver = true;
    this.#loop.close(this.#watched);
  }

  #step(events: number): void {
    if (this.#isOver) return;
    if (this.#rest.length > 0) {
      const sent = native().socketSend(this.#watched.fd, this.#rest);
      if (sent < 0 && sent !== again) {
        this.#fail("it refuses TCP");
        return;
      }
      if (sent > 0) this.#rest = this.#rest.subarray(sent);
      if (this.#rest.length === 0) this.#loop.watch(this.#watched, { input: true, output: false });
      return;
    }
    if (events & (PollEvent.In | PollEvent.HangUp | PollEvent.Error)) this.#read();
  }

  #read(): void {
    const chunk = Buffer.alloc(16_384);
    const got = native().socketReceive(this.#watched.fd, chunk);
    if (got === again) return;
    if (got <= 0) {
      this.#fail("it has closed the connection");
      return;
    }
    this.#received = Buffer.concat([this.#received, chunk.subarray(0, got)]);
    if (this.#received.length < 2) return;
    const length = this.#received.readUInt16BE(0);
    if (this.#received.length < 2 + length) return;
    const message = copyBytes(this.#received, 2, 2 + length);
    this.#end();
    this.#expecting.answered(message);
  }

  #fail(reason: string): void {
    this.close();
    this.#expecting.failed(reason);
  }
}
