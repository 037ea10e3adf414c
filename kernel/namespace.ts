import { closeSync } from "node:fs";
import { type Native, native } from "#native/addon.ts";
import type { Message, Request } from "#netlink/message.ts";
import { NetlinkSocket, type Outcome, Protocol } from "#netlink/socket.ts";
import { LinkReaper } from "./link-reaper.ts";
import { NamespaceError } from "./namespace-error.ts";

/** A namespace's file, with the identity that was seen there when the path was first looked at. */
export interface NamespaceTarget {
  readonly path: string;
  readonly dev: number;
  readonly ino: number;
}

/**
 * One network namespace, held open. Its route socket is opened on first use, belongs to that namespace wherever the
 * caller runs, and like every open handle keeps the namespace alive: close it as soon as the work is done.
 * Calls are synchronous, since the kernel answers rtnetlink within the call.
 */
export class NetworkNamespace {
  readonly path: string;
  readonly dev: number;
  readonly ino: number;
  readonly #fd: number;
  readonly #reaper = new LinkReaper(() => this.fd);
  #socket: NetlinkSocket | undefined;
  #isClosed = false;

  private constructor(fd: number, identity: NamespaceTarget) {
    this.#fd = fd;
    this.path = identity.path;
    this.dev = identity.dev;
    this.ino = identity.ino;
  }

  /**
   * Opens /proc/PID/ns/net, a bind mount of one, or anything else that is a network namespace. Where the caller has
   * looked at the path before, it passes what it saw, and a namespace that was put there since is refused.
   * @throws {NamespaceError}
   */
  static open(target: string | NamespaceTarget): NetworkNamespace {
    const path = typeof target === "string" ? target : target.path;
    let opened: ReturnType<Native["openNetworkNamespace"]>;
    try {
      opened = native().openNetworkNamespace(path);
    } catch (cause) {
      throw new NamespaceError(path, cause instanceof Error ? cause.message : String(cause), { cause });
    }
    if (!opened) throw new NamespaceError(path, "not a network namespace");
    const { fd, dev, ino } = opened;
    if (typeof target !== "string" && (dev !== target.dev || ino !== target.ino)) {
      closeSync(fd);
      throw new NamespaceError(path, "another namespace has taken its place");
    }
    return new NetworkNamespace(fd, { path, dev, ino });
  }

  /** For calls that take an open namespace. Not to be closed by the caller. */
  get fd(): number {
    if (this.#isClosed) throw new Error(`Cannot use network namespace ${this.path} after it was closed`);
    return this.#fd;
  }

  /**
   * Sends all requests in one datagram. Returns the kernel's messages for each.
   * @throws {NetlinkError} the first refusal; the kernel goes on with the others even so
   */
  transact(requests: readonly Request[]): Message[][] {
    return this.#route().transact(requests);
  }

  /** Like `transact`, with each request's refusal beside the others' success. */
  attempt(requests: readonly Request[]): Outcome[] {
    return this.#route().attempt(requests);
  }

  /** The same on a thread of the pool, for what keeps the kernel busy. */
  async attemptAsync(requests: readonly Request[]): Promise<Outcome[]> {
    return await this.#route().attemptAsync(requests);
  }

  /** All entries of a table, or those that the kernel's strict filter leaves. */
  dump(request: Request): Message[] {
    return this.#route().dump(request);
  }

  /** Settles once the link is gone for everybody: see `LinkReaper`. @throws {NetlinkError} */
  async deleteLink({
    ifindex,
    kind,
  }: {
    readonly ifindex: number;
    readonly kind?: string | undefined;
  }): Promise<void> {
    await this.#reaper.delete(ifindex, kind);
  }

  #route(): NetlinkSocket {
    this.#socket ??= NetlinkSocket.open({ protocol: Protocol.Route, namespaceFd: this.fd });
    return this.#socket;
  }

  /** Safe to call twice. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket?.close();
    closeSync(this.#fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
