import type { JsonObject } from "#cni/json.ts";
import type { AnyRequest } from "#cni/plugin.ts";
import { type Cidr, firstIp, lastIp, overlaps, parseCidr } from "#net/cidr.ts";
import { addToIp, equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import { encryptedVtepName, overlayBridgeName, vtepName } from "#overlay/identity.ts";
import type { LocalNetwork } from "#overlay/local-network.ts";

/**
 * What an attachment of an overlay network is on its host: one of a bridge, with addresses out of the blocks that this
 * host has. All that the request says beside (mac, ips, labels, prevResult) stays.
 * @param network undefined where it is no longer known: enough for DEL and GC, which go by their records
 * @param leaseDirectory host-local's dataDir
 */
export function bridgeRequest<R extends AnyRequest>(
  request: R,
  network: LocalNetwork | undefined,
  leaseDirectory: string,
): R {
  const json: JsonObject = {
    ...request.config.json,
    ...(network ? bridgeFields(network) : {}),
    ipam: { type: "host-local", dataDir: leaseDirectory, ...(network ? ranges(network) : {}) },
  };
  return { ...request, stdin: JSON.stringify(json), config: { ...request.config, json } };
}

function bridgeFields(network: LocalNetwork): JsonObject {
  return {
    bridge: overlayBridgeName(network.vni),
    mtu: network.mtu,
    isGateway: true,
    // The gateways of this host's other blocks.
    severalSubnets: true,
    ipMasq: !network.internal,
    hairpinMode: true,
    internal: network.internal,
    networkIsolation: true,
    // The other hosts' packets come by these; nobody else's do.
    trustedInterfaces: network.encrypted
      ? [encryptedVtepName(network.vni, "a"), encryptedVtepName(network.vni, "b")]
      : [vtepName(network.vni, 4), vtepName(network.vni, 6)],
  };
}

function ranges({ blocks, internal, subnets, mode }: LocalNetwork): JsonObject {
  const byFamily = ([4, 6] as const)
    .map((family) => blocks.map((text) => parseCidr(text)).filter(({ address }) => address.family === family))
    .filter((set) => set.length > 0);
  // An internal network has no way to the world, but one to its other hosts.
  const routes = internal
    ? subnets.map((dst) => ({ dst }))
    : byFamily.map(([first]) => ({ dst: first?.address.family === 6 ? "::/0" : "0.0.0.0/0" }));
  const segments = subnets.map((text) => parseCidr(text));
  return { ranges: byFamily.map((set) => set.map(mode === "l2" ? segmentRange(segments) : range)), routes };
}

/** The first address is that of the tunnel, the second the gateway's, which is the bridge's. */
function range(block: Cidr): JsonObject {
  const first = firstIp(block);
  const text = `${formatIp(first)}/${block.prefixLength}`;
  return { subnet: text, gateway: formatIp(addToIp(first, 1)), rangeStart: formatIp(addToIp(first, 2)) };
}

/** The block's share of the one segment, whose gateway has the same address on all hosts: the subnet's first. */
function segmentRange(segments: readonly Cidr[]) {
  return (block: Cidr): JsonObject => {
    const segment = segments.find((cidr) => overlaps(cidr, block)) ?? block;
    const first = firstIp(segment);
    return {
      subnet: `${formatIp(first)}/${segment.prefixLength}`,
      gateway: formatIp(addToIp(first, 1)),
      rangeStart: formatIp(addToIp(firstIp(block), 2)),
      rangeEnd: formatIp(lastUsable(segment, block)),
    };
  };
}

/** IPv4's last address of a subnet is everybody's. */
function lastUsable(segment: Cidr, block: Cidr): IpAddress {
  const last = lastIp(block);
  return last.family === 4 && equalIp(last, lastIp(segment)) ? addToIp(last, -1) : last;
}
