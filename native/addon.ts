import { existsSync } from "node:fs";
import { join } from "node:path";
import { libDirectory } from "./lib-directory.ts";

/**
 * The calls of native/addon.c. Every one of them returns in the network namespace that it was called in. They throw
 * errors in the shape of Node's own: `code` ("ENOENT"), `errno` (positive here), `syscall`.
 */
export interface Native {
  /**
   * Opens a netlink socket in the namespace of an open /proc/PID/ns/net (-1: the own one). It belongs to that
   * namespace for ever, whoever uses it. Non-blocking, with extended and capped acks, strict gets and 8 MiB buffers.
   * `port` is its netlink address, which the kernel's answers carry. Close the fd with `netlinkClose`.
   */
  netlinkOpen(namespaceFd: number, protocol: number): { readonly fd: number; readonly port: number };
  /**
   * @param waits false: does not wait for what the kernel has to do first, which for nf_tables takes 10 ms after a deletion
   */
  netlinkClose(fd: number, waits: boolean): void;
  /**
   * Sends one datagram of one or more messages and returns everything the kernel queued in answer, dumps to their end,
   * message after message. ENOBUFS: answers were lost, what is left was drained.
   */
  netlinkExchange(fd: number, datagram: Uint8Array): Uint8Array;
  /** The same on a thread of libuv's pool. The fd has to stay open and unused until it settles. */
  netlinkExchangeAsync(fd: number, datagram: Uint8Array): Promise<Uint8Array>;
  /**
   * Sends RTM_DELLINK messages and settles with whichever comes first: the notification that all `ifindexes` are gone
   * (undefined), or the return of the call (its answers; always so where it fails). The call may still run then: it
   * waits for an RCU grace period in a thread of its own, holds nothing of the caller's and cleans up after itself.
   */
  netlinkDeleteLinks(
    namespaceFd: number,
    datagram: Uint8Array,
    ifindexes: Int32Array,
  ): Promise<Uint8Array | undefined>;
  /**
   * From now on a child process makes the call of `netlinkDeleteLinks`, and no thread. For a process that ends with its
   * one verb: the kernel lets none end of which a thread is in such a call. Costs a fork, a millisecond or two.
   */
  deleteLinksByChild(whether: boolean): void;
  /** Subscribes to a multicast group (RTNLGRP_*). */
  netlinkJoin(fd: number, group: number): void;
  /** Everything that is queued; empty where nothing is. ENOBUFS: notifications were lost. */
  netlinkReceive(fd: number): Uint8Array;
  /** From now on the socket gets no notifications of what that netlink address (`port`) has asked the kernel for. */
  netlinkIgnore(fd: number, port: number): void;
  /**
   * Calls back with every notification that comes, several at once where they come faster; or with an error, ENOBUFS
   * where some were lost. A thread of its own waits for them; it takes the socket over, and does not keep the process
   * alive.
   * @returns a descriptor: `fs.closeSync` of it ends all
   */
  netlinkWatch(fd: number, tell: (news: Uint8Array | NodeJS.ErrnoException) => void): number;
  /**
   * Opens a network namespace, wherever it is mounted; undefined for one of another kind, and for any other file. Throws
   * ENOENT where there is nothing. Close the fd with `fs.closeSync`.
   */
  openNetworkNamespace(
    path: string,
  ): { readonly fd: number; readonly dev: number; readonly ino: number } | undefined;
  /** Which network namespace is there, as above, without keeping it open. */
  identifyNetworkNamespace(path: string): { readonly dev: number; readonly ino: number } | undefined;
  /** socket(2) in another namespace; SOCK_CLOEXEC is added. */
  socketIn(namespaceFd: number, domain: number, type: number, protocol: number): number;
  /**
   * A packet socket (AF_PACKET, SOCK_RAW) of one link in another namespace, not blocking: it hands up whole Ethernet
   * frames with IPv4 packets for that UDP port, and sends frames as they are. Read and write with `socketReceive` and
   * `socketSend`; close the fd with `fs.closeSync`.
   */
  packetSocketIn(namespaceFd: number, ifindex: number, udpPort: number): number;
  /** Reads at most 64 KiB as UTF-8, seen from that network namespace: for /proc/sys/net and /proc/net. */
  readFileIn(namespaceFd: number, path: string): string;
  /**
   * Writes into files as seen from that network namespace, each with one write(2); creates none. At most 32 pairs of
   * path and text, one after the other.
   * @returns for each the errno, or 0
   */
  writeFilesIn(namespaceFd: number, pathsAndTexts: readonly string[]): readonly number[];
  /**
   * From now on `readFileIn` and `writeFilesIn` open what is below /proc/sys in a procfs of this process's own, where it
   * may mount one and where the one at /proc is not read-only: there a look-up does not walk through all namespaces that
   * were ever looked at. For a process that stays: to give it back takes an RCU grace period.
   */
  useOwnProc(whether: boolean): void;
  /**
   * From now on what malloc(3) gets back goes back to the kernel soon, and threads share one heap: see mallopt(3). For a
   * process that stays. Does nothing where the C library is not glibc, whose defaults keep much.
   */
  keepMallocSmall(): void;
  /** Gives back to the kernel what malloc(3) has free, also between what is in use: malloc_trim(3). glibc alone has it. */
  trimMalloc(): void;
  /**
   * Lets go of the pages of files that are mapped to be read and as they are in the file, as madvise(2) with
   * MADV_DONTNEED: text and constants of the program and its libraries. What is needed again comes back from the kernel's
   * cache of the file, and what only a start has needed does not.
   */
  forgetProgramPages(): void;
  /** flock(2): `LockOperation`s or'ed; false where NonBlocking found it taken. Without that it blocks the thread. */
  flock(fd: number, operation: number): boolean;
  /**
   * open(2) and flock(2) in one: the descriptor that holds the lock, or -1 where NonBlocking found it taken. Makes the
   * file (0600) where there is none.
   */
  lockFile(path: string, operation: number): number;
  /** In nanoseconds; undefined where there is nothing. A tenth of the price of Node's stat, which makes four dates. */
  modificationTime(path: string): bigint | undefined;
  /** The text of a symbolic link; undefined where there is none. Node's throws then, at the price of fifty of these. */
  readLink(path: string): string | undefined;
  /** A whole file as UTF-8; undefined where there is none, which is an error of Node's at the price of ten of these. */
  readText(path: string): string | undefined;
  /** CRC-32 as in gzip (RFC 1952 section 8). Node has one in zlib only from 20.15 on. */
  crc32(bytes: Uint8Array): number;
  /** SHA-256 (FIPS 180-4) as hex digits. To load node:crypto for that takes 8 ms, in JavaScript it takes ten times as long. */
  sha256(bytes: Uint8Array): string;
  /** SO_PEERCRED: effective user id of the process at the other end of a unix socket, when it connected. */
  peerUid(fd: number): number;
  /** True if the other end of a stream socket is closed, or shut down for writing, at this very moment. */
  hasHungUp(fd: number): boolean;
  /** send(2) without waiting. @returns how many bytes a stream socket has taken; 0 where none, for whatever reason */
  sendNow(fd: number, bytes: Uint8Array): number;
  /** recv(2) without waiting. @returns how many bytes came; 0 where none are there, or none will come any more */
  receiveNow(fd: number, into: Uint8Array): number;
  /** Makes a network namespace that lives as long as the bind mount on `path`; EEXIST where there is such a file. */
  createNamespace(path: string): void;
  /** Takes that mount and the file away. Does nothing where there is none. */
  removeNamespace(path: string): void;
  /**
   * Makes a tap device in another namespace that stays until it is deleted: open(2) of /dev/net/tun, TUNSETIFF with
   * IFF_TAP and `flags` (IFF_NO_PI, IFF_MULTI_QUEUE …), TUNSETPERSIST. EBUSY where the name is taken; ENOENT or ENODEV
   * without the device file or the driver.
   * @param owner user id that may attach to it without privileges, -1 for none; the same for `group`
   */
  createTap(namespaceFd: number, name: string, flags: number, owner: number, group: number): void;
  /**
   * An epoll of its own. It owns what is added to it, and closes that when the thread ends that made it, however it ends.
   */
  pollerCreate(): Poller;
  /** @param tag at most 2^30; comes back in every record about the descriptor */
  pollerAdd(poller: Poller, fd: number, tag: number, isDatagrams: boolean): void;
  /** Says which `PollEvent`s of a descriptor are waited for. Not for one that is read as datagrams. */
  pollerWatch(poller: Poller, fd: number, events: number): void;
  /** Closes a descriptor that was added and not left to somebody else. */
  pollerClose(poller: Poller, fd: number): void;
  /** Leaves a descriptor that was added to whoever else has it. */
  pollerDisown(poller: Poller, fd: number): void;
  /** As long as it is so, `pollerWait()` tells of all datagrams, also of those that a table has an answer for. */
  pollerTellAll(poller: Poller, whether: boolean): void;
  /** A table of answers for sockets of this poller: 4,096 or 2 MiB at most, 32 MiB in all tables of the poller. */
  answersCreate(poller: Poller): Answers;
  /**
   * From now on `pollerWait()` answers itself whoever asks in these bytes, until they no longer hold. Replaces an earlier
   * answer; where there is no room, the table is emptied first.
   * @param key the query behind its id: 320 bytes at most
   * @param holdsMs Infinity: until the table is cleared
   * @param ageMs how long TTLs have run already that the messages don't show yet
   * @param messages complete answers one after the other, 8 at most, of `lengths` bytes; sent in turn, with the query's id
   * @param ttlOffsets where in each of them TTLs stand that count down; they must be the same in all
   */
  answersKeep(
    answers: Answers,
    key: Uint8Array,
    holdsMs: number,
    ageMs: number,
    messages: Uint8Array,
    lengths: Int32Array,
    ttlOffsets: Int32Array,
  ): void;
  /** Nothing in it is answered any more. */
  answersClear(answers: Answers): void;
  /** Which table answers a socket that is read as datagrams, instead of an earlier one. */
  pollerAnswer(poller: Poller, fd: number, answers: Answers): void;
  /** How many datagrams of that socket were answered by a table. */
  pollerAnswered(poller: Poller, fd: number): number;
  /**
   * Waits, and reads what has come: at most 16 datagrams of each socket, so that none keeps the others waiting. Those
   * that a table has an answer for are answered here; it returns where there is another.
   * @param timeoutMs -1 for ever
   * @param buffer cut into one slot for each record
   * @param records four numbers for each: tag; what (`PollRecord`, or `PollEvent`s); offset into the buffer, or the
   *   descriptor; length (-1 for a datagram longer than a slot), or the errno
   * @param addresses 24 bytes for each record: `SocketAddress`
   * @returns the number of records
   */
  pollerWait(
    poller: Poller,
    timeoutMs: number,
    buffer: Uint8Array,
    records: Int32Array,
    addresses: Uint8Array,
  ): number;
  /**
   * Sends datagrams, those of one socket in a row with one call of the kernel. What can't be sent at once is lost.
   * @param records four numbers for each: descriptor, offset, length, index of the address (-1: it is connected)
   */
  datagramsSend(buffer: Uint8Array, records: Int32Array, count: number, addresses: Uint8Array): number;
  /** bind(2). An address is 24 bytes: family and port as in a sockaddr, 16 of address, scope. */
  socketBind(fd: number, address: Uint8Array): void;
  /** connect(2); one that is under way is no error. */
  socketConnect(fd: number, address: Uint8Array): void;
  socketListen(fd: number, backlog: number): void;
  /** accept4(2), not blocking; a negative errno where there is none. */
  socketAccept(fd: number): number;
  /** recv(2), not blocking: 0 at the end, a negative errno for all else. */
  socketReceive(fd: number, into: Uint8Array): number;
  /** send(2), not blocking: how many bytes were taken, or a negative errno. */
  socketSend(fd: number, bytes: Uint8Array): number;
  socketOption(fd: number, level: number, name: number, value: number): void;
  /** eventfd(2), not blocking. */
  eventFd(): number;
}

/** Made by `pollerCreate()`. */
export interface Poller {
  readonly poller: unique symbol;
}

/** Made by `answersCreate()`. */
export interface Answers {
  readonly answers: unique symbol;
}

/** EPOLL* */
export const PollEvent = { In: 1, Out: 4, Error: 8, HangUp: 16 } as const;

/** What a record of `pollerWait()` is about, where it is not of `PollEvent`. */
export const PollRecord = { Datagram: -1, Error: -2 } as const;

/** LOCK_* of flock(2) */
export const LockOperation = { Shared: 1, Exclusive: 2, NonBlocking: 4, Unlock: 8 } as const;

let loaded: Native | undefined;

/** Loads dist/lib/native.node on first use (about 1 ms). @throws {Error} where it has not been built */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

function load(): Native {
  const file = join(libDirectory(), "native.node");
  const module: { exports: Partial<Native> } = { exports: {} };
  try {
    process.dlopen(module, file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const advice = existsSync(file) ? reason : 'build it with "node scripts/build-native.mjs"';
    throw new Error(`Cannot load ${file}: ${advice}`, { cause });
  }
  return module.exports as Native;
}
