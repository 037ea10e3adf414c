import { type Listener, readListeners } from "#kernel/listener.ts";
import { findSocketOwner } from "#machine/socket-owner.ts";
import { formatIp, isUnspecified } from "#net/ip.ts";
import { claimOfPorts, collide, formatClaim, type PortClaim, type PublishedPorts } from "#nftables/ports.ts";
import type { PluginHost } from "#plugins/context.ts";
import { portAllocated } from "./error.ts";

/**
 * Refuses ports that a process of the host listens on: published, they would be taken from under it.
 *
 * Some runtimes hold a container's ports by sockets of their own, as podman's conmon does. A process whose command
 * line names the container is such a one.
 * @throws {CniError} 100
 */
export async function refuseTakenByListeners(
  published: readonly PublishedPorts[],
  containerId: string,
  host: PluginHost,
): Promise<void> {
  const protocols = [...new Set(published.map(({ protocol }) => protocol))];
  if (protocols.length === 0) return;
  const claims = published.map(claimOfPorts);
  for (const listener of readListeners(host.kernel.namespace, protocols)) {
    const claim = claims.find((each) => claimsOf(listener).some((other) => collide(each, other)));
    if (claim) await refuse(claim, listener, containerId);
  }
}

function claimsOf({ protocol, address, port, families }: Listener): readonly PortClaim[] {
  const hostIp = isUnspecified(address) ? undefined : address;
  return families.map((family) => ({ family, protocol, hostIp, ports: { first: port, last: port } }));
}

async function refuse(claim: PortClaim, listener: Listener, containerId: string): Promise<void> {
  const owner = await findSocketOwner(listener.inode);
  if (owner?.commandLine.some((word) => word.includes(containerId))) return;
  const { address, port } = listener;
  const where = address.family === 6 ? `[${formatIp(address)}]:${port}` : `${formatIp(address)}:${port}`;
  const who = owner ? `process ${owner.pid} (${owner.name}), which` : "a process that";
  throw portAllocated(
    `Cannot publish ${formatClaim(claim)}: port is already allocated to ${who} listens on ${where}`,
  );
}
