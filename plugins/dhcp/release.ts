import { releaseLease } from "#dhcp/client.ts";
import type { LeaseKey, StoredLease } from "#dhcp/lease-store.ts";
import { LinkPort } from "#dhcp/link-port.ts";
import { readLink } from "#kernel/link.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { openLeases } from "./service.ts";

const lockTimeoutMs = 2000;

/**
 * Forgets a lease, and tells its server if there is a way to: nobody answers that, so nothing is waited for, and no
 * failure of it keeps the container from going.
 */
export async function giveBack(key: LeaseKey, host: PluginHost): Promise<void> {
  const leases = openLeases(host);
  const take = () => {
    const stored = leases.read(key);
    leases.remove(key);
    return stored;
  };
  // Whoever holds the lock is writing the lease; it looks whether it is still there.
  const stored = await leases.withLock(key, take, { timeoutMs: lockTimeoutMs }).catch(take);
  if (stored) tellServer(stored, host);
}

function tellServer({ key, netns, bootId, identity, lease }: StoredLease, host: PluginHost): void {
  if (!lease || bootId !== host.bootId) return;
  try {
    using namespace = host.kernel.open(netns);
    const link = readLink(namespace, parseIfName(key.ifName));
    if (!link?.up) return;
    using port = LinkPort.open(namespace.fd, link.ifindex);
    releaseLease(port, identity, lease);
  } catch (error) {
    // Its server gives the address to others when its time is up.
    host.log.info("a DHCP server was not told that an address is free", { ...key, error: String(error) });
  }
}
