import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import { u16 } from "#netlink/codec.ts";

/** IPVLAN_MODE_*: include/uapi/linux/if_link.h */
export const IpvlanMode = { l2: 0, l3: 1, l3s: 2 } as const;

/** IFLA_IPVLAN_*: include/uapi/linux/if_link.h. The link below is the link's `parent`. */
export const ipvlan = attributeTable({
  mode: [1, u16], // IpvlanMode; all on one parent share it
  flags: [2, u16], // 1: IPVLAN_F_PRIVATE, 2: IPVLAN_F_VEPA
});
export type Ipvlan = TypeOf<typeof ipvlan>;
