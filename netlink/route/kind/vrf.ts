import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import { u32 } from "#netlink/codec.ts";

/** IFLA_VRF_*: include/uapi/linux/if_link.h */
export const vrf = attributeTable({
  table: [1, u32], // the routing table its ports use
});
export type Vrf = TypeOf<typeof vrf>;
