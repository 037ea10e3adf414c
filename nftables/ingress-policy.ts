/** The `ingressPolicy` of the plugin firewall: see skeleton-forward.ts. */
import type { IfName } from "#net/ifname.ts";
import type { IpAddress } from "#net/ip.ts";
import type { PolicySets } from "./device-policy.ts";
import type { ElementRef, Operation, OwnedSetId } from "./element.ts";
import type { OwnerTag } from "./owner.ts";

/**
 * "same-bridge": nothing to or from other bridges that have a policy; "isolated": nor from one container to another of
 * the same bridge.
 */
export type IngressPolicy = "same-bridge" | "isolated";

export const ingressPolicySets: PolicySets = {
  holder: "ingressPolicies",
  single: ["ingressPeers"],
  pair: ["ingressSame", "ingressIsolated"],
};

export function ingressNumber(policy: IngressPolicy): number {
  return policy === "isolated" ? 2 : 1;
}

/** Everything that the bridge needs, for the transaction of an attachment. */
export function ingressElements(device: IfName, policy: IngressPolicy): readonly Operation[] {
  return [
    { set: "ingressPolicies", key: [device], value: [ingressNumber(policy)] },
    { set: "ingressPeers", key: [device] },
    { set: "ingressSame", key: [device, device] },
    ...(policy === "isolated" ? [{ set: "ingressIsolated", key: [device, device] } as const] : []),
  ];
}

export const admittedSets = ["admitted4", "admitted6"] as const satisfies readonly OwnedSetId[];

/** Says that the container's packets are let out, and answers in. */
export function admittedElements(addresses: readonly IpAddress[], owner: OwnerTag): readonly Operation[] {
  return admittedRefs(addresses).map((ref): Operation => ({ ...ref, owner }));
}

/** The elements that DEL has to remove. */
export function admittedRefs(
  addresses: readonly IpAddress[],
): readonly ElementRef<(typeof admittedSets)[number]>[] {
  return addresses.map((address) =>
    address.family === 4 ? { set: "admitted4", key: [address] } : { set: "admitted6", key: [address] },
  );
}
