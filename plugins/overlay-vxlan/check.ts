import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import { readLink } from "#kernel/link.ts";
import { containsIp, formatCidr, parseCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import type { LocalNetwork } from "#overlay/local-network.ts";
import type { PluginHost } from "#plugins/context.ts";

/**
 * What the bridge's CHECK can't know: the attachment's addresses are this host's still, and the ways to the other hosts
 * are there.
 * @throws {CniError} 999 with everything that is not as it should be
 */
export function checkOverlay(
  { config, ifName, prevResult }: CheckRequest,
  network: LocalNetwork | undefined,
  host: PluginHost,
): void {
  if (!network)
    throw new CniError(ErrorCode.Internal, `The cluster has no network ${JSON.stringify(config.name)}`);
  const blocks = network.blocks.map(parseCidr);
  const problems = prevResult.ips
    .filter(({ interface: index }) => prevResult.interfaces[index ?? -1]?.name === ifName)
    .filter(
      ({ address: { address } }) =>
        !blocks.some((block) => block.address.family === address.family && containsIp(block, address)),
    )
    .map(
      ({ address }) => `${formatCidr(address)} is of no block of this host: it may be another host's by now`,
    );
  for (const name of network.tunnels) {
    const tunnel = readLink(host.kernel.namespace, parseIfName(name));
    if (!tunnel) problems.push(`tunnel ${name} to the other hosts is gone`);
    else if (!tunnel.up) problems.push(`tunnel ${name} to the other hosts is down`);
  }
  if (problems.length > 0) throw new CniError(ErrorCode.Internal, problems.join("; "));
}
