import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import { u16, u32 } from "#netlink/codec.ts";

/** MACVLAN_MODE_*: include/uapi/linux/if_link.h */
export const MacvlanMode = { private: 1, vepa: 2, bridge: 4, passthru: 8, source: 16 } as const;

/** IFLA_MACVLAN_*: include/uapi/linux/if_link.h. The link below is the link's `parent`. Serves kind "macvtap" too. */
export const macvlan = attributeTable({
  mode: [1, u32], // MacvlanMode
  flags: [2, u16], // 1: MACVLAN_FLAG_NOPROMISC
  addressMode: [3, u32], // for source mode
  addressCount: [6, u32], // read only
  broadcastQueueLength: [7, u32],
  broadcastQueueLengthUsed: [8, u32], // read only
});
export type Macvlan = TypeOf<typeof macvlan>;
