import { closeSync } from "node:fs";
import { encodeSocketAddress } from "#machine/socket-address.ts";
import { native } from "#native/addon.ts";
import { parseIp } from "#net/ip.ts";
import type { AnswerTable } from "./answer-table.ts";
import type { Watched } from "./event-loop.ts";
import { openNamespace } from "./namespace.ts";
import type { NameEntry } from "./registry.ts";
import { TcpServer } from "./server/tcp.ts";
import { type ServerOptions, UdpServer } from "./server/udp.ts";

const AF_INET = 2;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SOL_IP = 0;
const IP_FREEBIND = 15;
const backlog = 128;

const resolverAddress = parseIp("127.0.0.11");

/** The resolver's two sockets in one container's namespace. They keep it alive until they are closed. */
export class Endpoint {
  readonly #options: ServerOptions;
  readonly #udp: Watched;
  readonly #tcp: Watched;
  readonly #udpServer: UdpServer;
  readonly #tcpServer: TcpServer;

  /** @throws {NamespaceGone}; Node's error: EADDRINUSE where the container has the port */
  constructor(options: ServerOptions, netns: NameEntry["netns"], port: number) {
    const { loop } = options;
    this.#options = options;
    const namespace = openNamespace(netns);
    let udp = -1;
    let tcp = -1;
    try {
      udp = open(namespace, SOCK_DGRAM, port);
      tcp = open(namespace, SOCK_STREAM, port);
      native().socketListen(tcp, backlog);
    } catch (error) {
      for (const fd of [udp, tcp]) if (fd >= 0) closeSync(fd);
      throw error;
    } finally {
      closeSync(namespace);
    }
    this.#udpServer = new UdpServer(options, udp);
    this.#tcpServer = new TcpServer(options);
    this.#udp = loop.addDatagrams(udp, this.#udpServer);
    this.#tcp = loop.addStream(tcp, () => this.#tcpServer.accept(tcp));
  }

  /** Whose answers hold for this container. */
  answerBy({ answers }: AnswerTable): void {
    this.#options.loop.answerBy(this.#udp, answers);
  }

  /** How many queries were answered without anybody having heard of them. */
  get answered(): number {
    return this.#options.loop.answeredOf(this.#udp);
  }

  close(): void {
    const { loop } = this.#options;
    this.#udpServer.close();
    this.#tcpServer.close();
    loop.close(this.#udp);
    loop.close(this.#tcp);
  }
}

function open(namespace: number, type: number, port: number): number {
  const fd = native().socketIn(namespace, AF_INET, type | SOCK_NONBLOCK, 0);
  try {
    // Connections of an earlier netd may still be closing. For UDP it would let others in.
    if (type === SOCK_STREAM) native().socketOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    // Loopback may not be up yet, or not any more.
    native().socketOption(fd, SOL_IP, IP_FREEBIND, 1);
    native().socketBind(fd, encodeSocketAddress(resolverAddress, port));
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
