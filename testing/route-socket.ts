import { closeSync, openSync } from "node:fs";
import type { Message, Request } from "#netlink/message.ts";
import { NetlinkSocket, Protocol } from "#netlink/socket.ts";
import type { TestNamespace } from "./test-namespace.ts";

/** A route socket in a test's namespace, and the open namespace itself. */
export class RouteSocket {
  readonly socket: NetlinkSocket;
  readonly namespaceFd: number;

  constructor(namespace: TestNamespace) {
    this.namespaceFd = openSync(namespace.path, "r");
    this.socket = NetlinkSocket.open({ protocol: Protocol.Route, namespaceFd: this.namespaceFd });
  }

  /** Sends one request; its messages. */
  send(request: Request): readonly Message[] {
    return this.socket.transact([request])[0] ?? [];
  }

  /** Every entry of a table. */
  all<T>(request: Request, decode: (message: Message) => T): T[] {
    return this.socket.dump(request).map(decode);
  }

  /** ifindex of a link, as sysfs-free as `ip` itself would find it. */
  ifindex(namespace: TestNamespace, name: string): number {
    const [link] = namespace.json<{ ifindex: number }>(`ip -j link show dev ${name}`);
    if (!link) throw new Error(`No link ${name} in ${namespace.name}`);
    return link.ifindex;
  }

  close(): void {
    this.socket.close();
    closeSync(this.namespaceFd);
  }
}
