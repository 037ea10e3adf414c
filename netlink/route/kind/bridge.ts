import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import { bool, bytes, mac, u8, u16, u16be, u32, u64 } from "#netlink/codec.ts";

/** IFLA_BR_*: include/uapi/linux/if_link.h. Times are in hundredths of a second (USER_HZ). */
export const bridge = attributeTable({
  forwardDelay: [1, u32],
  helloTime: [2, u32],
  maxAge: [3, u32],
  ageingTime: [4, u32],
  stpState: [5, u32],
  priority: [6, u16],
  vlanFiltering: [7, bool],
  vlanProtocol: [8, u16be], // 0x8100 or 0x88a8
  groupForwardMask: [9, u16],
  rootId: [10, bytes], // read only: struct ifla_bridge_id
  bridgeId: [11, bytes], // read only
  rootPort: [12, u16], // read only
  rootPathCost: [13, u32], // read only
  topologyChange: [14, u8], // read only
  topologyChangeDetected: [15, u8], // read only
  helloTimer: [16, u64], // read only, as the other timers
  tcnTimer: [17, u64],
  topologyChangeTimer: [18, u64],
  gcTimer: [19, u64],
  groupAddress: [20, mac],
  multicastRouter: [22, u8],
  multicastSnooping: [23, bool],
  multicastQuerier: [25, bool],
  nfCallIptables: [36, bool],
  nfCallIp6tables: [37, bool],
  nfCallArptables: [38, bool],
  vlanDefaultPvid: [39, u16], // 0: none
  vlanStatsEnabled: [41, bool],
});
export type Bridge = TypeOf<typeof bridge>;
