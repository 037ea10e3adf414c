import type { NetworkNamespace } from "./namespace.ts";
import { readSysctl } from "./sysctl.ts";

/**
 * True for the machine's first network namespace (init_net), to which the kernel sends hardware whose namespace has
 * ended. It alone has this sysctl (net/ipv4/sysctl_net_ipv4.c, ipv4_table).
 */
export function isFirstNamespace(namespace: NetworkNamespace): boolean {
  return readSysctl(namespace, "net/ipv4/inet_peer_threshold") !== undefined;
}
