import { CniError, ErrorCode } from "#cni/error.ts";
import type { NameEntry } from "#dns-resolver/registry.ts";
import { readListeners } from "#kernel/listener.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { formatIp, isUnspecified } from "#net/ip.ts";

/** Above what Linux gives out by itself (net.ipv4.ip_local_port_range ends at 60999), and nobody's by IANA's list. */
const candidates = [65_053, 64_053, 63_053, 62_053, 61_053];

/**
 * Where the resolver listens on 127.0.0.11 in a namespace: where it does already, else at the first port that nothing in
 * there has.
 * @throws {CniError} 100 if all are taken
 */
export function choosePort(namespace: NetworkNamespace, others: readonly NameEntry[]): number {
  const [other] = others;
  if (other) return other.port;
  const taken = new Set(
    readListeners(namespace, ["udp", "tcp"])
      .filter(({ address }) => isUnspecified(address) || formatIp(address) === "127.0.0.11")
      .map(({ port }) => port),
  );
  const free = candidates.find((port) => !taken.has(port));
  if (free !== undefined) return free;
  throw new CniError(
    ErrorCode.TryAgainLater,
    `Cannot serve names: ports ${candidates.join(", ")} are all taken in the container`,
  );
}
