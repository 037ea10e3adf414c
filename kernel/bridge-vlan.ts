import type { IfName } from "#net/ifname.ts";
import { addBridgeVlans, deleteBridgeVlans } from "#netlink/route/bridge-vlan.ts";
import type { PortVlans } from "./bridge.ts";
import { type Link, requireLink } from "./link.ts";
import type { NetworkNamespace } from "./namespace.ts";

/**
 * Puts a new port of a bridge that filters VLANs into its VLANs. Like `bridge vlan del dev PORT vid 1` and
 * `bridge vlan add dev PORT vid ID pvid untagged`.
 * @throws {NetlinkError} EOPNOTSUPP where the kernel can't filter VLANs
 */
export function setPortVlans(
  namespace: NetworkNamespace,
  port: { readonly name: IfName; readonly bridge: Link },
  vlans: PortVlans,
): void {
  const { ifindex } = requireLink(namespace, port.name);
  // A new port is in the bridge's default VLAN, and in no other.
  const given = port.bridge.bridge?.vlanDefaultPvid ?? 1;
  const leaves = !vlans.keepOthers && given !== 0;
  namespace.transact([
    ...(leaves ? [deleteBridgeVlans({ ifindex, vlans: [{ id: given }] })] : []),
    addBridgeVlans({
      ifindex,
      vlans: [
        ...vlans.tagged.map(({ first, last }) => ({ id: first, lastId: last })),
        // Last, since it wins where the trunk has it too.
        { id: vlans.untagged, pvid: true, untagged: true },
      ],
    }),
  ]);
}
