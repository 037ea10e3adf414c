import type { IfName } from "#net/ifname.ts";
import type { MacAddress } from "#net/mac.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import { newLink, vethPeer } from "#netlink/route/link.ts";
import { readLink } from "./link.ts";
import { BridgeFullError, LinkExistsError } from "./link-error.ts";
import type { NetworkNamespace } from "./namespace.ts";

export interface VethSpec {
  readonly name: IfName;
  readonly mac?: MacAddress;
  /** Of both ends; the kernel's default if absent. */
  readonly mtu?: number;
  /** Bridge that the near end becomes a port of. */
  readonly bridge?: { readonly ifindex: number; readonly name: IfName };
  /** Leaves the near end down, for `startRoutedEnd()`. */
  readonly down?: boolean;
  readonly peer: { readonly namespace: NetworkNamespace; readonly name: IfName; readonly mac?: MacAddress };
}

/**
 * Creates a veth pair whose far end is born in its namespace under its final name, down; the near end is up, unless it
 * is to be a port of a bridge, which `startBridgePort()` sets up, or is to stay down. One message, so it is made whole or not at all. A MAC
 * address given here stays: udev leaves alone what was set explicitly.
 * Like `ip link add NAME master BRIDGE type veth peer name PEER netns NS`.
 * @throws {LinkExistsError} naming the end whose name is taken
 * @throws {BridgeFullError}
 * @throws {NetlinkError}
 */
export function createVeth(namespace: NetworkNamespace, spec: VethSpec): void {
  const { name, mac, mtu, bridge, peer } = spec;
  const far = vethPeer({ name: peer.name, namespaceFd: peer.namespace.fd, mtu, mac: peer.mac });
  try {
    namespace.transact([
      newLink({
        name,
        kind: "veth",
        up: !bridge && !spec.down,
        mac,
        mtu,
        master: bridge?.ifindex,
        veth: { peer: far },
      }),
    ]);
  } catch (error) {
    if (isNetlinkError(error, Errno.EEXIST)) {
      const isPeers = readLink(peer.namespace, peer.name) !== undefined;
      throw isPeers
        ? new LinkExistsError(peer.name, peer.namespace, error)
        : new LinkExistsError(name, namespace, error);
    }
    if (bridge && isNetlinkError(error, BridgeFullError.errno)) throw new BridgeFullError(bridge.name, error);
    throw error;
  }
}
