import { closeSync } from "node:fs";
import type { Port } from "#dhcp/port.ts";
import { Receiver, sendOn } from "#dhcp/socket.ts";
import { encodeSocketAddress } from "#machine/socket-address.ts";
import { native } from "#native/addon.ts";
import { noAddress } from "./message.ts";

const clientPort = 68;
/** AF_INET; SOCK_DGRAM | SOCK_NONBLOCK */
const [inet, datagrams] = [2, 0x802];

/** A port on one link of a namespace. */
export class LinkPort implements Port {
  readonly #fd: number;
  readonly #guard: number | undefined;
  readonly #receiver: Receiver;

  private constructor(fd: number, guard: number | undefined) {
    this.#fd = fd;
    this.#receiver = new Receiver(fd);
    this.#guard = guard;
  }

  /** @param namespaceFd needed open only for this call */
  static open(namespaceFd: number, ifindex: number): LinkPort {
    const fd = native().packetSocketIn(namespaceFd, ifindex, clientPort);
    return new LinkPort(fd, openGuard(namespaceFd));
  }

  send(frame: Uint8Array): void {
    sendOn(this.#fd, frame);
  }

  receive(): Uint8Array | undefined {
    return this.#receiver.next();
  }

  close(): void {
    closeSync(this.#fd);
    if (this.#guard !== undefined) closeSync(this.#guard);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * A socket on the client's port that nobody reads: without it the container's kernel would tell the server of each answer
 * that the port is closed. Not needed where the container has one itself.
 */
function openGuard(namespaceFd: number): number | undefined {
  const fd = native().socketIn(namespaceFd, inet, datagrams, 0);
  try {
    native().socketBind(fd, encodeSocketAddress(noAddress, clientPort));
    return fd;
  } catch {
    closeSync(fd);
    return undefined;
  }
}
