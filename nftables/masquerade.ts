import { type Cidr, networkOf } from "#net/cidr.ts";
import { type IpAddress, ipBits } from "#net/ip.ts";
import type { ElementRef, Operation } from "./element.ts";
import type { OwnerTag } from "./owner.ts";

/**
 * Lets an attachment's addresses leave under an address of the host, except towards their own subnet and
 * towards multicast. Like one rule `ip saddr ADDRESS ip daddr != SUBNET masquerade` for each address.
 *
 * Two networks with overlapping subnets count as one here: between their addresses nothing is masqueraded.
 *
 * @param addresses with the prefix length of their subnet, as IPAM gave them
 */
export function masqueradeElements(attachment: {
  readonly addresses: readonly Cidr[];
  readonly owner: OwnerTag;
}): readonly Operation[] {
  return attachment.addresses.flatMap((cidr): readonly Operation[] => {
    const { owner } = attachment;
    const own: Operation =
      cidr.address.family === 4
        ? { set: "masquerade4", key: [cidr.address], owner }
        : { set: "masquerade6", key: [cidr.address], owner };
    // A point-to-point address has nobody else in its subnet.
    return cidr.prefixLength === ipBits(cidr.address.family) ? [own] : [sameSubnet(cidr), own];
  });
}

/** Says that the addresses of the subnet are each other's neighbours. Shared by all of them. */
export function sameSubnet(cidr: Cidr): Operation {
  const subnet = networkOf(cidr);
  const set = cidr.address.family === 4 ? "sameSubnet4" : "sameSubnet6";
  return { set, key: [subnet, subnet] };
}

/** The elements that DEL has to remove. The subnets' are shared, and stay (`Nftables.retainSubnets`). */
export function masqueradeRefs(
  addresses: readonly Cidr[],
): readonly ElementRef<"masquerade4" | "masquerade6">[] {
  return addresses.map(({ address }) =>
    address.family === 4 ? { set: "masquerade4", key: [address] } : { set: "masquerade6", key: [address] },
  );
}

/** A masqueraded address that leaves as a fixed one. */
export interface FixedSource {
  readonly address: IpAddress;
  readonly to: IpAddress;
}

/** Lets a masqueraded address leave as `to`, whatever interface it leaves by. Like `snat to TO`. */
export function fixedSourceElement({ address, to }: FixedSource, owner: OwnerTag): Operation {
  return address.family === 4
    ? { set: "snat4", key: [address], value: [to], owner }
    : { set: "snat6", key: [address], value: [to], owner };
}

export function fixedSourceRef({ address }: FixedSource): ElementRef<"snat4" | "snat6"> {
  return address.family === 4 ? { set: "snat4", key: [address] } : { set: "snat6", key: [address] };
}
