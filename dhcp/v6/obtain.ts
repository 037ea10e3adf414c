import { DhcpError } from "#dhcp/error.ts";
import type { Port } from "#dhcp/port.ts";
import type { Link } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import { type AcquireOptions, acquireLease } from "./acquire.ts";
import { type ClientIdentity, releaseLease } from "./conversation.ts";
import { findDuplicates } from "./duplicates.ts";
import { declineAddresses } from "./extend.ts";
import type { Lease } from "./lease.ts";

/**
 * Gets a lease whose addresses nobody else on the link has. What somebody has is declined, and others are asked for
 * (RFC 8415 section 18.2.8), as long as there is time.
 * @throws {DhcpError}
 */
export async function obtainLease(
  where: { readonly namespace: NetworkNamespace; readonly link: Link; readonly port: Port },
  identity: ClientIdentity,
  options: AcquireOptions & { readonly duplicateAddressDetection: boolean },
): Promise<Lease> {
  const { namespace, link, port } = where;
  const signal = options.signal ? { signal: options.signal } : {};
  const deadlineMs = performance.now() + options.timeoutMs;
  const taken: IpAddress[] = [];
  for (;;) {
    const timeoutMs = Math.max(deadlineMs - performance.now(), 0);
    const lease = await acquireLease(port, identity, { ...options, timeoutMs }).catch((error: unknown) => {
      throw error instanceof DhcpError && taken.length > 0 ? withTaken(error, taken) : error;
    });
    if (!options.duplicateAddressDetection) return lease;
    const addresses = lease.addresses.map(({ address }) => address);
    const duplicates = await findDuplicates(namespace, link, addresses, signal).catch((error: unknown) => {
      releaseLease(port, identity, lease);
      throw error;
    });
    if (duplicates.length === 0) return lease;
    taken.push(...duplicates);
    const isTaken = ({ address }: Lease["addresses"][number]) =>
      duplicates.some((each) => equalIp(each, address));
    const free = lease.addresses.filter((each) => !isTaken(each));
    if (free.length > 0) releaseLease(port, identity, { ...lease, addresses: free });
    await declineAddresses(port, identity, lease, lease.addresses.filter(isTaken), signal);
    if (performance.now() >= deadlineMs)
      throw withTaken(new DhcpError("there was no time for another"), taken);
  }
}

function withTaken(error: DhcpError, taken: readonly IpAddress[]): DhcpError {
  const list = taken.map(formatIp).join(", ");
  return new DhcpError(`other nodes on the link have what servers gave (${list}); then ${error.message}`, {
    cause: error,
  });
}
