import { CniError, ErrorCode } from "#cni/error.ts";
import type { HostKernel } from "#kernel/host-kernel.ts";
import { type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readVethPeer } from "#kernel/veth-peer.ts";
import { parseIfName } from "#net/ifname.ts";
import type { Place } from "./attachment.ts";

export interface FoundPlace {
  readonly place: Place;
  readonly namespace: NetworkNamespace;
  readonly device: Link;
}

/**
 * Where to get hold of the traffic of a container's interface: at the host's end of a veth pair, else at the interface
 * itself.
 * @throws {CniError} 4 without such an interface
 */
export function findPlace(kernel: HostKernel, container: NetworkNamespace, ifName: string): FoundPlace {
  const link = readLink(container, parseIfName(ifName));
  if (!link) {
    throw new CniError(
      ErrorCode.InvalidEnvironment,
      `Cannot find interface ${JSON.stringify(ifName)} of CNI_IFNAME in ${container.path}`,
    );
  }
  const peer = readVethPeer(container, link, kernel.namespace);
  return peer
    ? { place: "host", namespace: kernel.namespace, device: peer }
    : { place: "container", namespace: container, device: link };
}
