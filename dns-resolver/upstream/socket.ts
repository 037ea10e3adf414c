import { closeSync } from "node:fs";
import type { EventLoop, Watched } from "#dns-resolver/event-loop.ts";
import { openNamespace } from "#dns-resolver/namespace.ts";
import { addressFamily, encodeSocketAddress } from "#machine/socket-address.ts";
import { native } from "#native/addon.ts";
import { randomByte, randomId } from "./dice.ts";
import type { UpstreamGroup } from "./group.ts";
import type { UpstreamServer } from "./server.ts";

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const connectionRefused = 111;

/** What waits for an answer on a socket. */
export interface Expecting {
  /** @param message a view that is gone after the call */
  answered(message: Uint8Array): void;
  failed(reason: string): void;
}

/** A port is used for so many queries, or so long, whichever is first: who wants to forge answers has to guess it again. */
const maxQueries = 500;
const maxAgeMs = 10_000;
const socketsPerServer = { host: 8, container: 2 };

/** One UDP socket that is connected to one server: the kernel passes nothing from anybody else. */
export class UpstreamSocket {
  readonly waiting = new Map<number, Expecting>();
  readonly watched: Watched;
  readonly #loop: EventLoop;
  readonly #bornMs: number;
  #sent = 0;
  #isRetired = false;

  constructor(loop: EventLoop, fd: number) {
    this.#loop = loop;
    this.#bornMs = loop.nowMs;
    this.watched = loop.addDatagrams(fd, {
      datagram: (buffer, start, length) => {
        if (length >= 0 && length < 12) return;
        // What did not fit into a slot is asked for again over TCP, as if the server had said so.
        const end = length < 0 ? 12 : length;
        const message = buffer.subarray(start, start + end);
        if (length < 0) message[2] = (message[2] ?? 0) | 0x02;
        const id = ((message[0] ?? 0) << 8) | (message[1] ?? 0);
        this.waiting.get(id)?.answered(message);
      },
      failed: (errno) => {
        // ICMP says that nobody is there: all that wait here need not.
        const reason = errno === connectionRefused ? "nobody listens there" : `unreachable (errno ${errno})`;
        Array.from(this.waiting.values()).forEach((each) => each.failed(reason));
      },
    });
  }

  get isUsable(): boolean {
    return !this.#isRetired && this.#sent < maxQueries && this.#loop.nowMs - this.#bornMs < maxAgeMs;
  }

  /** @returns the id, or -1 where nothing can be sent */
  send(message: Uint8Array, expecting: Expecting): number {
    for (let tries = 0; tries < 16; tries++) {
      const id = randomId();
      if (this.waiting.has(id)) continue;
      this.waiting.set(id, expecting);
      this.#sent += 1;
      this.#loop.send(this.watched.fd, message, -1, id >> 8, id & 0xff);
      return id;
    }
    return -1;
  }

  forget(id: number): void {
    this.waiting.delete(id);
    if (this.#isRetired && this.waiting.size === 0) this.#loop.close(this.watched);
  }

  /** Takes no more; closed when the last answer has come. */
  retire(): void {
    this.#isRetired = true;
    if (this.waiting.size === 0) this.#loop.close(this.watched);
  }
}

/** A socket in the group's namespace. @throws Node's error; NamespaceGone */
export function openSocket(group: UpstreamGroup, server: UpstreamServer, isTcp: boolean): number {
  const type = (isTcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK;
  const namespace = group.netns ? openNamespace(group.netns) : -1;
  let fd: number;
  try {
    fd = native().socketIn(namespace, addressFamily(server.ip), type, 0);
  } finally {
    if (namespace >= 0) closeSync(namespace);
  }
  try {
    // Connected before it is bound, so that the kernel chooses the port, at random.
    native().socketConnect(fd, encodeSocketAddress(server.ip, server.port));
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * One of the server's sockets, any of them; a new one where there are few, or theirs have been used enough.
 * @throws Node's error; NamespaceGone
 */
export function pickSocket(loop: EventLoop, group: UpstreamGroup, server: UpstreamServer): UpstreamSocket {
  const { sockets } = server;
  retireWorn(sockets);
  const most = group.netns ? socketsPerServer.container : socketsPerServer.host;
  if (sockets.length < most || group.isClosed) {
    const socket = new UpstreamSocket(loop, openSocket(group, server, false));
    if (!group.isClosed) sockets.push(socket);
    return socket;
  }
  // Two or eight, by which 256 can be divided: none is chosen more often.
  return sockets[randomByte() % sockets.length] as UpstreamSocket;
}

function retireWorn(sockets: UpstreamSocket[]): void {
  for (let index = sockets.length - 1; index >= 0; index--) {
    const socket = sockets[index];
    if (!socket || socket.isUsable) continue;
    sockets.splice(index, 1);
    socket.retire();
  }
}

/** Nothing new is asked through it; what is under way may still be answered. */
export function drainGroup(group: UpstreamGroup): void {
  group.isClosed = true;
  for (const { sockets } of group.servers) for (const socket of sockets.splice(0)) socket.retire();
}

/** Lets go at once of all that it has open: its namespace may be about to go. */
export function closeGroup(group: UpstreamGroup): void {
  for (const each of Array.from(group.pending)) each.abandon();
  drainGroup(group);
}

/** Closes sockets that nobody has used for a while. */
export function closeIdle(group: UpstreamGroup): void {
  for (const { sockets } of group.servers) retireWorn(sockets);
}
