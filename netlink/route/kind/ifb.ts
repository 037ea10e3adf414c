import { attributeTable, type TypeOf } from "#netlink/attribute.ts";

/**
 * Intermediate functional block: what a filter redirects into it comes out again, through its qdisc, so that arriving
 * traffic can be shaped. drivers/net/ifb.c. It takes no attributes of its own.
 */
export const ifb = attributeTable({});
export type Ifb = TypeOf<typeof ifb>;
