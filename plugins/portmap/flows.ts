import { forgetUdpFlows, type UdpFlows } from "#kernel/conntrack.ts";
import { readLocalAddresses } from "#kernel/localnet.ts";
import { hostCidr } from "#net/cidr.ts";
import type { PublishedPorts } from "#nftables/ports.ts";
import type { PluginHost } from "#plugins/context.ts";

/**
 * Makes the kernel forget flows of UDP to ports that have just been published: a client that went on sending while
 * nobody was there would go on reaching nobody, or whoever had the port before. Other flows stay as they are, those
 * through this host to the same port elsewhere included.
 */
export async function forgetFlowsBefore(
  published: readonly PublishedPorts[],
  host: PluginHost,
): Promise<void> {
  const { namespace } = host.kernel;
  const flows = udpOnly(published).map((ports): UdpFlows => {
    const { family } = ports.container;
    const destinations = ports.hostIp ? [hostCidr(ports.hostIp)] : readLocalAddresses(namespace, family);
    return { family, ...ports.hostPorts, destinations };
  });
  await attempt(flows, host);
}

/** The same for flows that lead to a container which has published its ports no longer. */
export async function forgetFlowsAfter(
  published: readonly PublishedPorts[],
  host: PluginHost,
): Promise<void> {
  const flows = udpOnly(published).map(({ hostIp, hostPorts, container }): UdpFlows => {
    const destinations = hostIp ? [hostCidr(hostIp)] : undefined;
    return { family: container.family, ...hostPorts, destinations, translatedTo: container };
  });
  await attempt(flows, host);
}

function udpOnly(published: readonly PublishedPorts[]): readonly PublishedPorts[] {
  return published.filter(({ protocol }) => protocol === "udp");
}

/** A kernel that can't be asked for its flows can publish ports all the same. */
async function attempt(flows: readonly UdpFlows[], host: PluginHost): Promise<void> {
  if (flows.length === 0) return;
  try {
    await forgetUdpFlows(host.kernel.namespace, flows);
  } catch (error) {
    host.log.warn("cannot forget UDP flows", {
      error: error instanceof Error ? error.message : String(error),
    });
  }
}
