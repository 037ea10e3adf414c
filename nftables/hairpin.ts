import type { Cidr } from "#net/cidr.ts";
import { ipBits } from "#net/ip.ts";
import type { ElementRef, Operation } from "./element.ts";
import { sameSubnet } from "./masquerade.ts";
import type { OwnerTag } from "./owner.ts";

const sets = {
  4: { to: "hairpin4", self: "hairpinSelf4", all: "hairpinAll4" },
  6: { to: "hairpin6", self: "hairpinSelf6", all: "hairpinAll6" },
} as const;
type HairpinSetId = (typeof sets)[4 | 6][keyof (typeof sets)[4]];

/** A container whose published ports can be used by itself, by its neighbours and by 127.0.0.1. */
export interface Hairpin {
  /** With the prefix length of their subnet. */
  readonly addresses: readonly Cidr[];
  /** Everybody else, too, comes from an address of the host. */
  readonly all: boolean;
  readonly owner: OwnerTag;
}

export function hairpinElements({ addresses, all, owner }: Hairpin): readonly Operation[] {
  return addresses.flatMap((cidr): readonly Operation[] => {
    const { address, prefixLength } = cidr;
    const { to, self, all: toAll } = sets[address.family];
    return [
      prefixLength === ipBits(address.family)
        ? { set: self, key: [address, address], owner }
        : sameSubnet(cidr),
      { set: to, key: [address], owner },
      ...(all ? [{ set: toAll, key: [address], owner } as const] : []),
    ];
  });
}

/** The elements that DEL has to remove: all that there can be. */
export function hairpinRefs(addresses: readonly Cidr[]): readonly ElementRef<HairpinSetId>[] {
  return addresses.flatMap(({ address }): readonly ElementRef<HairpinSetId>[] => {
    const { to, self, all } = sets[address.family];
    return [
      { set: to, key: [address] },
      { set: self, key: [address, address] },
      { set: all, key: [address] },
    ];
  });
}
