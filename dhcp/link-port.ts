import { closeSync } from "node:fs";
import { native } from "#native/addon.ts";

/** Sends and receives whole frames. The real one is a packet socket; tests put a scripted server in its place. */
export interface Port {
  send(frame: Uint8Array): void;
  /** The next frame for a DHCP client; undefined where none is there. */
  receive(): Uint8Array | undefined;
  close(): void;
}

const clientPort = 68;
/** Longer than an Ethernet frame of any MTU that a DHCP server fills. */
const frameBytes = 16 * 1024;
/** AF_INET; SOCK_DGRAM | SOCK_NONBLOCK */
const [inet, datagrams] = [2, 0x802];

/** A port on one link of a namespace. */
export class LinkPort implements Port {
  readonly #fd: number;
  readonly #guard: number | undefined;
  readonly #buffer = Buffer.alloc(frameBytes);

  private constructor(fd: number, guard: number | undefined) {
    this.#fd = fd;
    this.#guard = guard;
  }

  /** @param namespaceFd needed open only for this call */
  static open(namespaceFd: number, ifindex: number): LinkPort {
    const fd = native().packetSocketIn(namespaceFd, ifindex, clientPort);
    return new LinkPort(fd, openGuard(namespaceFd));
  }

  send(frame: Uint8Array): void {
    const sent = native().socketSend(this.#fd, frame);
    if (sent < 0) throw Object.assign(new Error(`send: errno ${-sent}`), { errno: -sent });
  }

  receive(): Uint8Array | undefined {
    const length = native().socketReceive(this.#fd, this.#buffer);
    return length > 0 ? Uint8Array.from(this.#buffer.subarray(0, length)) : undefined;
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
    const address = Buffer.alloc(24);
    address.writeUInt16LE(inet, 0);
    address.writeUInt16BE(clientPort, 2);
    native().socketBind(fd, address);
    return fd;
  } catch {
    closeSync(fd);
    return undefined;
  }
}
