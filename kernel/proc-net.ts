import { native } from "#native/addon.ts";
import { Errno } from "#netlink/errno.ts";
import type { NetworkNamespace } from "./namespace.ts";

/**
 * A file below /proc/net as the namespace sees it; undefined if there is none.
 * @param name without the directory: "ip_tables_names"
 */
export function readProcNet(namespace: NetworkNamespace, name: string): string | undefined {
  try {
    return native().readFileIn(namespace.fd, `/proc/thread-self/net/${name}`);
  } catch (error) {
    if (error instanceof Error && "errno" in error && error.errno === Errno.ENOENT) return undefined;
    throw error;
  }
}
