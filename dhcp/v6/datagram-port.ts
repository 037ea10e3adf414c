import { closeSync } from "node:fs";
import type { Port } from "#dhcp/port.ts";
import { Receiver, sendOn } from "#dhcp/socket.ts";
import { encodeSocketAddress } from "#machine/socket-address.ts";
import { native } from "#native/addon.ts";
import { type IpAddress, parseIp } from "#net/ip.ts";

/** RFC 8415 section 7.1 and 7.2 */
const allServers = parseIp("ff02::1:2");
const [clientPort, serverPort] = [546, 547];
/** AF_INET6; SOCK_DGRAM | SOCK_NONBLOCK; SOL_SOCKET, SO_REUSEADDR */
const [inet6, datagrams, socketLevel, reuseAddress] = [10, 0x802, 1, 2];

/**
 * Asks all servers and relays on one link of a namespace, and hears what they say to it. No server is asked by
 * unicast, also where one allows it (RFC 8415 section 21.12): relays and other servers would not hear it.
 */
export class DatagramPort implements Port {
  /** Connected to the multicast address, so that the kernel says why it takes nothing. Hears none of the answers. */
  readonly #sender: number;
  readonly #listener: number;
  readonly #receiver: Receiver;

  private constructor(sender: number, listener: number) {
    this.#sender = sender;
    this.#listener = listener;
    this.#receiver = new Receiver(listener);
  }

  /**
   * @param namespaceFd needed open only for this call
   * @param source a link-local address of that link
   */
  static open(namespaceFd: number, ifindex: number, source: IpAddress): DatagramPort {
    const own = encodeSocketAddress(source, clientPort, ifindex);
    const listener = openBound(namespaceFd, own);
    try {
      const sender = openBound(namespaceFd, own);
      try {
        native().socketConnect(sender, encodeSocketAddress(allServers, serverPort, ifindex));
        return new DatagramPort(sender, listener);
      } catch (error) {
        closeSync(sender);
        throw error;
      }
    } catch (error) {
      closeSync(listener);
      throw error;
    }
  }

  send(message: Uint8Array): void {
    sendOn(this.#sender, message);
  }

  receive(): Uint8Array | undefined {
    return this.#receiver.next();
  }

  close(): void {
    closeSync(this.#sender);
    closeSync(this.#listener);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openBound(namespaceFd: number, address: Uint8Array): number {
  const fd = native().socketIn(namespaceFd, inet6, datagrams, 0);
  try {
    native().socketOption(fd, socketLevel, reuseAddress, 1);
    native().socketBind(fd, address);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
