import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import { bool, u8, u16, u32 } from "#netlink/codec.ts";

/**
 * IFLA_BRPORT_*: include/uapi/linux/if_link.h. What a bridge keeps for one of its ports: `bridge link set dev PORT …`.
 * The kernel takes it for a link that is a port already, not while creating one.
 */
export const bridgePort = attributeTable({
  state: [1, u8], // BR_STATE_*: 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking
  priority: [2, u16],
  cost: [3, u32],
  hairpin: [4, bool], // IFLA_BRPORT_MODE
  guard: [5, bool], // bpdu guard
  protect: [6, bool], // root block
  fastLeave: [7, bool],
  learning: [8, bool],
  unicastFlood: [9, bool],
  proxyArp: [10, bool],
  multicastRouter: [25, u8],
  multicastFlood: [27, bool],
  multicastToUnicast: [28, bool],
  vlanTunnel: [29, bool],
  broadcastFlood: [30, bool],
  groupForwardMask: [31, u16],
  neighborSuppress: [32, bool],
  isolated: [33, bool], // talks only to ports that are not
  locked: [39, bool],
});
export type BridgePort = TypeOf<typeof bridgePort>;
