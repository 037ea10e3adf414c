import { type Message, messagesIn } from "#netlink/message.ts";
import type { Transport } from "#netlink/socket.ts";
import { Writer } from "#netlink/writer.ts";

/** One message that the scripted kernel sends. */
export interface ScriptedMessage {
  readonly type: number;
  readonly flags?: number;
  /** The request's, unless it is given */
  readonly sequence?: number;
  readonly port?: number;
  readonly body?: Uint8Array;
}

/**
 * A kernel that answers what a test says, in place of a real socket. Each call of `answer` gets one request and returns
 * the replies to it.
 */
export class ScriptedKernel implements Transport {
  readonly port = 4711;
  readonly requests: Message[] = [];
  closed = 0;
  readonly #answer: (request: Message, index: number) => readonly ScriptedMessage[];

  constructor(answer: (request: Message, index: number) => readonly ScriptedMessage[]) {
    this.#answer = answer;
  }

  exchange(datagram: Uint8Array): Uint8Array {
    const writer = new Writer();
    for (const request of messagesIn(datagram)) {
      this.requests.push(request);
      for (const reply of this.#answer(request, this.requests.length - 1)) {
        const body = reply.body ?? new Uint8Array(0);
        writer.u32(16 + body.length).u16(reply.type);
        writer.u16(reply.flags ?? 0).u32(reply.sequence ?? request.sequence);
        writer
          .u32(reply.port ?? this.port)
          .bytes(body)
          .align();
      }
    }
    return writer.finish();
  }

  async exchangeAsync(datagram: Uint8Array): Promise<Uint8Array> {
    await Promise.resolve();
    return this.exchange(datagram);
  }

  join(): void {}

  receive(): Uint8Array {
    return new Uint8Array(0);
  }

  close(): void {
    this.closed++;
  }
}

/** NLMSG_ERROR: a refusal, or with 0 the acknowledgement. */
export function verdict(errno: number): ScriptedMessage {
  return {
    type: 2,
    flags: 0x100,
    body: new Writer(20)
      .i32(-errno || 0)
      .zeros(16)
      .finish(),
  };
}

/** NLMSG_DONE */
export function done(errno = 0, flags = 0): ScriptedMessage {
  return { type: 3, flags: 2 | flags, body: new Writer(4).i32(-errno || 0).finish() };
}
