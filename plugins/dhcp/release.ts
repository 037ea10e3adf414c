import type { LeaseFormat, LeaseKey, StoredLease } from "#dhcp/lease-store.ts";
import { type ClientIdentity, releaseLease } from "#dhcp/v4/client.ts";
import type { Lease } from "#dhcp/v4/lease.ts";
import { leaseFormat } from "#dhcp/v4/lease-format.ts";
import { LinkPort } from "#dhcp/v4/link-port.ts";
import { leaseFormat as leaseFormat6 } from "#dhcp/v6/lease-format.ts";
import { tellServerOfDhcp6 } from "#dhcp/v6/tell-server.ts";
import { type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { openLeases } from "./service.ts";

const lockTimeoutMs = 2000;

/**
 * Forgets what an attachment has leased, and tells the servers if there is a way to: no answer is waited for, and no
 * failure of it keeps the container from going.
 */
export async function giveBack(key: LeaseKey, host: PluginHost): Promise<void> {
  await Promise.all([
    giveBackOne(key, host, leaseFormat, tellServerOfDhcp4),
    giveBackOne(key, host, leaseFormat6, tellServerOfDhcp6),
  ]);
}

type Tell<Identity, L> = (
  where: { readonly namespace: NetworkNamespace; readonly link: Link },
  identity: Identity,
  lease: L,
) => void;

async function giveBackOne<Identity, L>(
  key: LeaseKey,
  host: PluginHost,
  format: LeaseFormat<Identity, L>,
  tell: Tell<Identity, L>,
): Promise<void> {
  const leases = openLeases(format, host);
  const take = () => {
    const stored = leases.read(key);
    leases.remove(key);
    return stored;
  };
  // Whoever holds the lock is writing the lease; it looks whether it is still there.
  const stored = await leases.withLock(key, take, { timeoutMs: lockTimeoutMs }).catch(take);
  if (stored) tellServer(stored, host, tell);
}

function tellServer<Identity, L>(
  { key, netns, bootId, identity, lease }: StoredLease<Identity, L>,
  host: PluginHost,
  tell: Tell<Identity, L>,
): void {
  if (!lease || bootId !== host.bootId) return;
  try {
    using namespace = host.kernel.open(netns);
    const link = readLink(namespace, parseIfName(key.ifName));
    if (link?.up) tell({ namespace, link }, identity, lease);
  } catch (error) {
    // Its server gives the address to others when its time is up.
    host.log.info("a DHCP server was not told that an address is free", { ...key, error: String(error) });
  }
}

const tellServerOfDhcp4: Tell<ClientIdentity, Lease> = ({ namespace, link }, identity, lease) => {
  using port = LinkPort.open(namespace.fd, link.ifindex);
  releaseLease(port, identity, lease);
};
