import { attributeTable } from "#netlink/attribute.ts";
import { text, u16, u32 } from "#netlink/codec.ts";
import type { Message, Request } from "#netlink/message.ts";
import { controllerFamily, decodeGeneric, genericRequest } from "./message.ts";

/** CTRL_CMD_*: include/uapi/linux/genetlink.h */
const ControllerCommand = { GetFamily: 3 } as const;
const version = 1;

/** CTRL_ATTR_* */
const attributes = attributeTable({ id: [1, u16], name: [2, text], version: [3, u32] });

/** Which number a family has on this boot. ENOENT where the kernel has none of that name, nor a module with it. */
export function getFamily(name: string): Request {
  const request = {
    op: `find generic netlink family ${JSON.stringify(name)}`,
    family: controllerFamily,
    command: ControllerCommand.GetFamily,
    version,
  };
  return genericRequest(request, attributes.encode({ name }));
}

/** @throws {DecodeError} */
export function decodeFamily(message: Message): { readonly id?: number | undefined } {
  return { id: decodeGeneric(message, attributes).id };
}
