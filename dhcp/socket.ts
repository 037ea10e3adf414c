import { native } from "#native/addon.ts";

/** Longer than an Ethernet frame of any MTU that a DHCP server fills. */
const longestBytes = 16 * 1024;

/** @throws {Error} with the errno where the kernel does not take it */
export function sendOn(fd: number, bytes: Uint8Array): void {
  const sent = native().socketSend(fd, bytes);
  if (sent < 0) throw Object.assign(new Error(`send: errno ${-sent}`), { errno: -sent });
}

/** Reads what comes on one socket. */
export class Receiver {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(longestBytes);

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** @returns undefined where nothing is there */
  next(): Uint8Array | undefined {
    const length = native().socketReceive(this.#fd, this.#buffer);
    return length > 0 ? Uint8Array.from(this.#buffer.subarray(0, length)) : undefined;
  }
}
