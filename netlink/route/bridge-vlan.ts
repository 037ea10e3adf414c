import { attributeTable, repeated } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { type Codec, expectAtLeast, text, u16, u32 } from "#netlink/codec.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { Family, RouteMessage } from "./constant.ts";
import { linkHeaderBytes, readLinkHeader, writeLinkHeader } from "./link-attributes.ts";

/** BRIDGE_VLAN_INFO_*: include/uapi/linux/if_bridge.h */
const VlanFlag = { Pvid: 0x2, Untagged: 0x4, RangeBegin: 0x8, RangeEnd: 0x10 } as const;

/** struct bridge_vlan_info */
const vlanInfo: Codec<{ readonly flags: number; readonly id: number }> = {
  write(into, value) {
    into.u16(value.flags).u16(value.id);
  },
  read(payload) {
    expectAtLeast(payload, 4);
    const view = viewOf(payload);
    return { flags: view.getUint16(0, hostLittleEndian), id: view.getUint16(2, hostLittleEndian) };
  },
};

/** IFLA_BRIDGE_*: inside IFLA_AF_SPEC of a message of AF_BRIDGE */
const bridgeSpec = attributeTable({
  flags: [0, u16], // BRIDGE_FLAGS_MASTER 1, BRIDGE_FLAGS_SELF 2
  vlans: [2, repeated(vlanInfo)],
});

const attributes = attributeTable({
  name: [3, text],
  master: [10, u32],
  bridgeSpec: [26, bridgeSpec], // IFLA_AF_SPEC
  extMask: [29, u32],
});

/** RTEXT_FILTER_BRVLAN_COMPRESSED: ranges instead of each id */
const compressedVlans = 4;

/** VLANs that a port lets through: one, or those up to `lastId`. */
export interface BridgeVlan {
  /** 1 to 4094 */
  readonly id: number;
  readonly lastId?: number | undefined;
  /** Untagged frames that arrive belong to it; one id only */
  readonly pvid?: boolean | undefined;
  /** Its frames leave without tag */
  readonly untagged?: boolean | undefined;
}

export interface BridgeVlanChange {
  /** A port, or with `self` the bridge itself */
  readonly ifindex: number;
  readonly self?: boolean | undefined;
  readonly vlans: readonly BridgeVlan[];
}

/** `bridge vlan add dev … vid ID[-LAST] [pvid] [untagged] [self]` */
export function addBridgeVlans(change: BridgeVlanChange): Request {
  return {
    op: `add VLANs to link ${change.ifindex}`,
    type: RouteMessage.SetLink,
    flags: 0,
    body: encode(change),
  };
}

/** `bridge vlan del dev … vid ID[-LAST] [self]` */
export function deleteBridgeVlans(change: BridgeVlanChange): Request {
  return {
    op: `delete VLANs of link ${change.ifindex}`,
    type: RouteMessage.DeleteLink,
    flags: 0,
    body: encode(change),
  };
}

/** For `dump`: `bridge vlan show`, of all bridges and ports. */
export function getBridgeVlans(): Request {
  const writer = new Writer(32);
  writeLinkHeader(writer, { family: Family.Bridge });
  attributes.write(writer, { extMask: compressedVlans });
  return { op: "read bridge VLANs", type: RouteMessage.GetLink, flags: 0, body: writer.finish() };
}

export interface PortVlans {
  readonly ifindex: number;
  readonly vlans: readonly BridgeVlan[];
}

/** Reads RTM_NEWLINK of AF_BRIDGE. @throws {DecodeError} */
export function decodeBridgeVlans({ body }: Message): PortVlans {
  const { ifindex } = readLinkHeader(body);
  const { bridgeSpec: spec } = attributes.decode(body.subarray(linkHeaderBytes));
  const vlans: BridgeVlan[] = [];
  let rangeStart: number | undefined;
  for (const { flags, id } of spec?.vlans ?? []) {
    if ((flags & VlanFlag.RangeBegin) !== 0) {
      rangeStart = id;
      continue;
    }
    const isEnd = (flags & VlanFlag.RangeEnd) !== 0 && rangeStart !== undefined;
    vlans.push({
      id: isEnd && rangeStart !== undefined ? rangeStart : id,
      ...(isEnd && { lastId: id }),
      pvid: (flags & VlanFlag.Pvid) !== 0,
      untagged: (flags & VlanFlag.Untagged) !== 0,
    });
    rangeStart = undefined;
  }
  return { ifindex, vlans };
}

function encode({ ifindex, self, vlans }: BridgeVlanChange): Uint8Array {
  const infos = vlans.flatMap(({ id, lastId, pvid, untagged }) => {
    const flags = (pvid ? VlanFlag.Pvid : 0) | (untagged ? VlanFlag.Untagged : 0);
    if (lastId === undefined || lastId === id) return [{ flags, id }];
    return [
      { flags: flags | VlanFlag.RangeBegin, id },
      { flags: flags | VlanFlag.RangeEnd, id: lastId },
    ];
  });
  const writer = new Writer(64);
  writeLinkHeader(writer, { family: Family.Bridge, ifindex });
  attributes.write(writer, { bridgeSpec: { ...(self && { flags: 2 }), vlans: infos } });
  return writer.finish();
}
