import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { type Codec, expectAtLeast, u16, u16be } from "#netlink/codec.ts";

/** struct ifla_vlan_flags: which bits to change, and to what. VLAN_FLAG_*: include/uapi/linux/if_vlan.h */
const vlanFlags: Codec<{ readonly flags: number; readonly mask: number }> = {
  write(into, value) {
    into.u32(value.flags).u32(value.mask);
  },
  read(payload) {
    expectAtLeast(payload, 8);
    const view = viewOf(payload);
    return { flags: view.getUint32(0, hostLittleEndian), mask: view.getUint32(4, hostLittleEndian) };
  },
};

/** IFLA_VLAN_*: include/uapi/linux/if_link.h. The link below is the link's `parent`. */
export const vlan = attributeTable({
  id: [1, u16], // 1 to 4094
  flags: [2, vlanFlags],
  protocol: [5, u16be], // 0x8100 (802.1Q) or 0x88a8 (802.1ad)
});
export type Vlan = TypeOf<typeof vlan>;
