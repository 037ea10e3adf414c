import { attributeTable, type TypeOf } from "#netlink/attribute.ts";

/** A link that swallows what is sent into it: drivers/net/dummy.c. It takes no attributes of its own. */
export const dummy = attributeTable({});
export type Dummy = TypeOf<typeof dummy>;
