import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import { bool, u8, u32 } from "#netlink/codec.ts";

/**
 * IFLA_TUN_*: include/uapi/linux/if_link.h. Only reported: a tun or tap device is made by ioctl TUNSETIFF on
 * /dev/net/tun, and rtnetlink answers its creation with EINVAL (drivers/net/tun.c, tun_validate).
 */
export const tun = attributeTable({
  owner: [1, u32], // uid
  group: [2, u32], // gid
  type: [3, u8], // 1 IFF_TUN, 2 IFF_TAP
  packetInformation: [4, bool],
  virtioHeader: [5, bool],
  persistent: [6, bool],
  multiQueue: [7, bool],
  queues: [8, u32],
  disabledQueues: [9, u32],
});
export type Tun = TypeOf<typeof tun>;
