import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import { viewOf } from "#netlink/byte-order.ts";
import { bool, type Codec, expectAtLeast, flag, ip, u8, u16be, u32, u32be } from "#netlink/codec.ts";

/** struct ifla_vxlan_port_range: UDP source ports, network byte order */
const portRange: Codec<{ readonly low: number; readonly high: number }> = {
  write(into, value) {
    into.u16be(value.low).u16be(value.high);
  },
  read(payload) {
    expectAtLeast(payload, 4);
    const view = viewOf(payload);
    return { low: view.getUint16(0), high: view.getUint16(2) };
  },
};

/** IFLA_VXLAN_*: include/uapi/linux/if_link.h; kinds per vxlan_policy in drivers/net/vxlan/vxlan_core.c */
export const vxlan = attributeTable({
  id: [1, u32], // VNI, 24 bits (RFC 7348 section 5)
  group: [2, ip], // IPv4 destination of what has no forwarding entry; multicast or unicast
  link: [3, u32], // ifindex of the underlay
  local: [4, ip], // IPv4 source
  ttl: [5, u8], // 0: the inner packet's is not copied, the default is used
  tos: [6, u8],
  learning: [7, bool],
  ageing: [8, u32], // seconds
  limit: [9, u32], // entries
  portRange: [10, portRange],
  proxy: [11, bool],
  routeShortCircuit: [12, bool],
  l2miss: [13, bool],
  l3miss: [14, bool],
  port: [15, u16be], // UDP destination port
  group6: [16, ip],
  local6: [17, ip],
  udpChecksum: [18, bool],
  udpZeroChecksum6Transmit: [19, bool],
  udpZeroChecksum6Receive: [20, bool],
  groupBasedPolicy: [23, flag],
  collectMetadata: [25, bool],
  flowLabel: [26, u32be],
  df: [29, u8], // 0 unset, 1 set, 2 inherit
  vniFilter: [30, bool],
  localBypass: [31, bool],
});
export type Vxlan = TypeOf<typeof vxlan>;
