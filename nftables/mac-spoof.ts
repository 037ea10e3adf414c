import type { IfName } from "#net/ifname.ts";
import type { MacAddress } from "#net/mac.ts";
import type { ElementRef, Operation } from "./element.ts";
import type { OwnerTag } from "./owner.ts";

/**
 * Drops every frame that enters the bridge port with another source address than the container's own.
 * Ethernet only: what ARP and IP headers say is not looked at.
 *
 * @param port host side of the container's veth, a port of the bridge
 */
export function macSpoofElements(attachment: {
  readonly port: IfName;
  readonly mac: MacAddress;
  readonly owner: OwnerTag;
}): readonly Operation[] {
  const { port, mac, owner } = attachment;
  return [
    { set: "macAllowed", key: [port, mac], owner },
    { set: "macChecked", key: [port], owner },
  ];
}

/** The elements that DEL has to remove. */
export function macSpoofRefs(attachment: {
  readonly port: IfName;
  readonly mac: MacAddress;
}): readonly ElementRef<"macAllowed" | "macChecked">[] {
  const { port, mac } = attachment;
  return [
    { set: "macChecked", key: [port] },
    { set: "macAllowed", key: [port, mac] },
  ];
}
