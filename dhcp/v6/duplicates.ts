import { addressRequest, readAddresses, removeAddress } from "#kernel/address.ts";
import type { Link } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { WaitTimeoutError, waitUntil } from "#kernel/wait.ts";
import { hostCidr } from "#net/cidr.ts";
import { equalIp, type IpAddress } from "#net/ip.ts";

/** The kernel takes a second or two. */
const patienceMs = 5000;

/**
 * Which of these addresses another node on the link has: duplicate address detection by the kernel (RFC 4862 section
 * 5.4), which RFC 8415 section 18.2.10.1 wants before any use. They are on the link only meanwhile; those that it has
 * already are not looked at.
 */
export async function findDuplicates(
  namespace: NetworkNamespace,
  { ifindex, name }: Link,
  addresses: readonly IpAddress[],
  options: { readonly signal?: AbortSignal } = {},
): Promise<readonly IpAddress[]> {
  const present = () => readAddresses(namespace, ifindex);
  const before = present();
  const added = addresses
    .filter((ip) => !before.some(({ address }) => equalIp(address.address, ip)))
    .map(hostCidr);
  try {
    namespace.transact(
      added.map((address) => addressRequest(ifindex, address, { noDad: false, noPrefixRoute: true })),
    );
    const outcome = () => {
      const now = present().filter(({ address }) => added.some((ip) => equalIp(ip.address, address.address)));
      const isDecided = now.every(({ tentative, dadFailed }) => dadFailed || !tentative);
      return isDecided
        ? now.filter(({ dadFailed }) => dadFailed).map(({ address }) => address.address)
        : undefined;
    };
    return await waitUntil(`addresses of ${name} to be looked for`, outcome, {
      timeoutMs: patienceMs,
      ...options,
    });
  } catch (error) {
    // Without a carrier nobody can be asked, and nobody can have it.
    if (error instanceof WaitTimeoutError) return [];
    throw error;
  } finally {
    for (const address of added) removeAddress(namespace, ifindex, address);
  }
}
