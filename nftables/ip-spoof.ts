import type { IfName } from "#net/ifname.ts";
import type { IpAddress } from "#net/ip.ts";
import { linkLocalOf } from "#net/link-local.ts";
import type { MacAddress } from "#net/mac.ts";
import type { ElementRef, Operation, OwnedSetId } from "./element.ts";
import type { OwnerTag } from "./owner.ts";

/** One port of a bridge whose container keeps to its own addresses. */
export interface CheckedPort {
  /** Host side of the container's veth. */
  readonly port: IfName;
  readonly mac: MacAddress;
  readonly addresses: readonly IpAddress[];
}

export const ipSpoofSets = [
  "ipChecked",
  "ipAllowed4",
  "ipAllowed6",
  "neighborAllowed",
] as const satisfies readonly OwnedSetId[];
type IpSpoofSetId = (typeof ipSpoofSets)[number];

/**
 * Drops what enters the port under an IP address that is not the container's: packets, ARP, neighbour advertisements;
 * and what none has to send: router advertisements, redirects, frames that are neither IP nor ARP. The link-local
 * address that the kernel derives from the MAC address is allowed (addr_gen_mode 0).
 */
export function ipSpoofElements(checked: CheckedPort, owner: OwnerTag): readonly Operation[] {
  return ipSpoofRefs(checked).map((ref): Operation => ({ ...ref, owner }));
}

/** The elements that DEL has to remove. */
export function ipSpoofRefs({ port, mac, addresses }: CheckedPort): readonly ElementRef<IpSpoofSetId>[] {
  return [
    ...[...addresses, linkLocalOf(mac)].flatMap((address): readonly ElementRef<IpSpoofSetId>[] =>
      address.family === 4
        ? [{ set: "ipAllowed4", key: [port, address] }]
        : [
            { set: "ipAllowed6", key: [port, address] },
            { set: "neighborAllowed", key: [port, address] },
          ],
    ),
    { set: "ipChecked", key: [port] },
  ];
}
