import { attributeTable, type TypeOf } from "#netlink/attribute.ts";
import type { Codec } from "#netlink/codec.ts";
import { type LinkMessage, readLinkMessage, writeLinkMessage } from "#netlink/route/link-attributes.ts";

/** The other end: an ifinfomsg and a link's attributes, as in a request of its own. */
const peer: Codec<LinkMessage> = {
  // Nested, although a header stands before the attributes: the kernel's validation wants the flag.
  nested: true,
  write: writeLinkMessage,
  read: readLinkMessage,
};

/**
 * VETH_INFO_*: include/uapi/linux/veth.h. Only for creation: the kernel never reports it (veth's link operations have
 * no fill_info); the peer shows as the link's `parent`.
 */
export const veth = attributeTable({
  peer: [1, peer], // VETH_INFO_PEER
});
export type Veth = TypeOf<typeof veth>;
