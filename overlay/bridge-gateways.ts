import { readAddresses } from "#kernel/address.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { type Cidr, containsIp, firstIp, formatCidr, networkOf, overlaps } from "#net/cidr.ts";
import { addToIp, equalIp, parseIp } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import { deleteAddress } from "#netlink/route/address.ts";
import { overlayBridgeName } from "./identity.ts";
import type { NetworkRecord } from "./record.ts";

/**
 * Takes the gateway's address of blocks that are no longer this host's from a network's bridge. ADD puts it there, and
 * with it the kernel's route to the block, which would keep packets here that are for the block's next host.
 * @param own this host's blocks in the network
 * @param strays addresses in use here that are of none of them; called where there is such a gateway: it stays with them
 * @returns what was done, in words
 */
export function removeStaleGateways(
  namespace: NetworkNamespace,
  { vni, subnets }: Pick<NetworkRecord, "vni" | "subnets">,
  own: readonly Cidr[],
  strays: () => readonly string[],
): readonly string[] {
  const name = overlayBridgeName(vni);
  const bridge = readLink(namespace, name);
  if (!bridge) return [];
  const isGatewayOfBlock = (cidr: Cidr) =>
    equalIp(cidr.address, addToIp(firstIp(cidr), 1)) &&
    subnets.some((subnet) => subnet.blockLength === cidr.prefixLength && overlaps(subnet.cidr, cidr));
  const stale = readAddresses(namespace, bridge.ifindex)
    .map(({ address }) => address)
    .filter((address) => isGatewayOfBlock(address) && !own.some((block) => overlaps(block, address)));
  if (stale.length === 0) return [];
  const used = strays().map(parseIp);
  return stale
    .filter((address) => !used.some((ip) => containsIp(networkOf(address), ip)))
    .flatMap((address) => {
      const [outcome] = namespace.attempt([deleteAddress({ ifindex: bridge.ifindex, address })]);
      const words = `remove address ${formatCidr(address)} of ${name}`;
      return outcome?.errno === 0 || outcome?.errno === Errno.EADDRNOTAVAIL ? [words] : [];
    });
}
