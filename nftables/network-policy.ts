/** Who may reach the containers of a network, and whom they may reach: see skeleton-forward.ts. */
import { sha256Hex } from "#machine/sha256.ts";
import type { IfName } from "#net/ifname.ts";
import { type PolicySets, readIfUsable } from "./device-policy.ts";
import type { Operation } from "./element.ts";
import type { Nftables } from "./nftables.ts";

/** How packets from outside get to containers' own addresses. */
export type Access = "open" | "protected" | "routed" | "isolated";

export interface NetworkPolicy {
  readonly internal: boolean;
  /** Containers reach each other. */
  readonly icc: boolean;
  /** Nothing to other networks or from them. */
  readonly isolated: boolean;
  readonly access: Readonly<Record<4 | 6, Access>>;
  /** Interfaces from which everything is reached. */
  readonly trusted: readonly IfName[];
}

/** The one number. Zero: nothing but that it is a network. */
export function policyNumber({ internal, icc, isolated, access, trusted }: NetworkPolicy): number {
  const ways: readonly Access[] = ["open", "protected", "routed", "isolated"];
  const flags =
    (internal ? 1 : 0) |
    (icc ? 0 : 2) |
    (isolated ? 4 : 0) |
    (ways.indexOf(access[4]) << 3) |
    (ways.indexOf(access[6]) << 5);
  // Two lists of the same sum would be taken for the same: one in 16 million.
  const sum =
    trusted.length === 0 ? 0 : Number.parseInt(sha256Hex([...trusted].sort().join(" ")).slice(0, 6), 16);
  return ((sum << 8) | flags) >>> 0;
}

const perFamily = {
  4: { protected: "protected4", routed: "routed4", isolated: "isolated4" },
  6: { protected: "protected6", routed: "routed6", isolated: "isolated6" },
} as const;

export const networkPolicySets: PolicySets = {
  holder: "networkPolicies",
  single: [
    "bridges",
    "internal",
    "isolatedNetworks",
    ...Object.values(perFamily[4]),
    ...Object.values(perFamily[6]),
  ],
  pair: ["sameBridge", "iccOff"],
  towards: "trusted",
};

/** Everything that the network needs, for the transaction of an attachment. */
export function policyElements(device: IfName, policy: NetworkPolicy): readonly Operation[] {
  const { internal, icc, isolated, access, trusted } = policy;
  const number = policyNumber(policy);
  const ofFamilies = ([4, 6] as const).flatMap((family): readonly Operation[] => {
    const sets = perFamily[family];
    const way = access[family];
    return [
      ...(way === "open" ? [] : [{ set: sets.protected, key: [device] } as const]),
      ...(way === "routed" ? [{ set: sets.routed, key: [device] } as const] : []),
      ...(way === "isolated" ? [{ set: sets.isolated, key: [device] } as const] : []),
    ];
  });
  return [
    { set: "networkPolicies", key: [device], value: [number] },
    { set: "bridges", key: [device] },
    ...(number === 0 ? [] : [{ set: "sameBridge", key: [device, device] } as const]),
    ...(internal ? [{ set: "internal", key: [device] } as const] : []),
    ...(isolated ? [{ set: "isolatedNetworks", key: [device] } as const] : []),
    ...(icc ? [] : [{ set: "iccOff", key: [device, device] } as const]),
    ...ofFamilies,
    ...trusted.map((name): Operation => ({ set: "trusted", key: [name, device] })),
  ];
}

/** True for the interface of a network whose containers are routed to. @throws {NetlinkError} */
export async function isRoutedTo(nftables: Nftables, family: 4 | 6, device: IfName): Promise<boolean> {
  return (await readIfUsable(nftables, { set: perFamily[family].routed, key: [device] })) !== undefined;
}
