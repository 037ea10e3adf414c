import { closeSync } from "node:fs";
import { native } from "#native/addon.ts";
import { Errno } from "./errno.ts";
import { NetlinkError } from "./error.ts";

export interface WatchOptions {
  /** Protocol.* of socket.ts */
  readonly protocol: number;
  /** Of the protocol's multicast groups. */
  readonly groups: readonly number[];
  /** An open /proc/PID/ns/net or the like; the own namespace where there is none. Only needed while opening. */
  readonly namespaceFd?: number | undefined;
  /** What this netlink address asks the kernel for is not told. */
  readonly ignoredPort?: number | undefined;
  /** Notifications, several at once where they come faster. */
  readonly onNews: (notifications: Uint8Array) => void;
  /** Some were lost, as more came than the socket's buffer holds: look at everything anew. */
  readonly onLoss: () => void;
  /** Nothing more will come. */
  readonly onEnd: (error: NetlinkError) => void;
}

/** A subscription to multicast groups of the kernel. A thread waits at the socket; nothing else costs anything. */
export class NotificationWatch {
  #stopFd: number | undefined;

  /** @throws {NetlinkError} */
  constructor({ protocol, groups, namespaceFd, ignoredPort, onNews, onLoss, onEnd }: WatchOptions) {
    const op = `watch netlink groups ${groups.join()}`;
    const calls = native();
    const { fd } = rethrown(op, () => calls.netlinkOpen(namespaceFd ?? -1, protocol));
    try {
      // Before the group is joined: nothing of it must come.
      if (ignoredPort !== undefined) rethrown(op, () => calls.netlinkIgnore(fd, ignoredPort));
      for (const group of groups) rethrown(op, () => calls.netlinkJoin(fd, group));
      this.#stopFd = rethrown(op, () =>
        calls.netlinkWatch(fd, (news) => {
          if (this.#stopFd === undefined) return;
          if (!(news instanceof Error)) onNews(news);
          else if (news.errno === Errno.ENOBUFS || news.errno === Errno.EMSGSIZE) onLoss();
          else onEnd(new NetlinkError({ errno: news.errno ?? Errno.EIO, op, cause: news }));
        }),
      );
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Nothing is told after that. Safe to call twice. */
  close(): void {
    const fd = this.#stopFd;
    this.#stopFd = undefined;
    if (fd !== undefined) closeSync(fd);
  }
}

function rethrown<T>(op: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    const errno = error instanceof Error && "errno" in error ? error.errno : undefined;
    if (typeof errno !== "number") throw error;
    throw new NetlinkError({ errno, op, cause: error });
  }
}
