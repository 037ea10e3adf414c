import { DhcpError } from "#dhcp/error.ts";
import { type InterfaceAddress, readAddresses } from "#kernel/address.ts";
import type { Link } from "#kernel/link.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { SysctlError, writeSysctls } from "#kernel/sysctl.ts";
import { WaitTimeoutError, waitUntil } from "#kernel/wait.ts";
import { formatIp, type IpAddress, isLinkLocal } from "#net/ip.ts";

/** The link's own address, from which a client asks (RFC 8415 section 13.1); undefined where there is none to be used. */
export function readLinkLocal(namespace: NetworkNamespace, ifindex: number): IpAddress | undefined {
  return linkLocals(namespace, ifindex).find(({ tentative, dadFailed }) => !tentative && !dadFailed)?.address
    .address;
}

function linkLocals(namespace: NetworkNamespace, ifindex: number): readonly InterfaceAddress[] {
  return readAddresses(namespace, ifindex).filter(
    ({ address: { address } }) => address.family === 6 && isLinkLocal(address),
  );
}

/**
 * Switches IPv6 on for the link, as for the addresses that come later, and waits until the kernel has made its address,
 * which takes a second or two where it looks for duplicates. The link has to be up.
 * @throws {DhcpError} with what is in the way
 */
export async function waitForLinkLocal(
  namespace: NetworkNamespace,
  link: Link,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<IpAddress> {
  try {
    writeSysctls(namespace, [{ key: `net/ipv6/conf/${link.name}/disable_ipv6`, value: 0 }]);
  } catch (cause) {
    if (!(cause instanceof SysctlError)) throw cause;
    throw new DhcpError(`IPv6 can't be used on it: ${cause.message}`, { cause, isTemporary: false });
  }
  try {
    return await waitUntil(
      `the link-local address of ${link.name}`,
      () => {
        const failed = linkLocals(namespace, link.ifindex).find(({ dadFailed }) => dadFailed);
        if (failed) throw isTaken(failed.address.address);
        return readLinkLocal(namespace, link.ifindex);
      },
      options,
    );
  } catch (cause) {
    if (!(cause instanceof WaitTimeoutError)) throw cause;
    const seconds = Math.round(options.timeoutMs / 100) / 10;
    const isConnected = readLink(namespace, link.ifindex)?.operState === "up";
    const why = isConnected
      ? "the kernel has made none, or is still looking for duplicates"
      : "it has no carrier";
    throw new DhcpError(`no link-local address to ask from came up in ${seconds} s: ${why}`, { cause });
  }
}

function isTaken(address: IpAddress): DhcpError {
  return new DhcpError(`another node on the link has its link-local address ${formatIp(address)}`);
}
