/**
 * What holds for a whole network: elements of `forward-sets.ts` for the interface that its containers are behind. All
 * attachments share them, so nobody owns them: the first one makes them, the others find them there, and a GC takes
 * them away. The map `network_policies` holds all of it in one number; so the kernel refuses an attachment whose network
 * wants something else of the same interface, in the very transaction that would add it.
 */
import { sha256Hex } from "#machine/sha256.ts";
import type { IfName } from "#net/ifname.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import {
  type DeviceSetId,
  definitionOf,
  type ElementRef,
  formatElement,
  type Operation,
  type PresentElement,
} from "./element.ts";
import { ConflictError } from "./error.ts";
import type { Change, Nftables, View } from "./nftables.ts";

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

type PolicySetId = Exclude<
  DeviceSetId,
  "ingressPolicies" | "ingressPeers" | "ingressSame" | "ingressIsolated"
>;

/** Everything that the network needs, for the transaction of an attachment. */
export function policyElements(device: IfName, policy: NetworkPolicy): readonly Operation[] {
  const { internal, icc, isolated, access, trusted } = policy;
  const perFamily = ([4, 6] as const).flatMap((family): readonly Operation[] => {
    const sets = policySets[family];
    const way = access[family];
    return [
      ...(way === "open" ? [] : [{ set: sets.protected, key: [device] } as const]),
      ...(way === "routed" ? [{ set: sets.routed, key: [device] } as const] : []),
      ...(way === "isolated" ? [{ set: sets.isolated, key: [device] } as const] : []),
    ];
  });
  const number = policyNumber(policy);
  return [
    { set: "networkPolicies", key: [device], value: [number] },
    { set: "bridges", key: [device] },
    ...(number === 0 ? [] : [{ set: "sameBridge", key: [device, device] } as const]),
    ...(internal ? [{ set: "internal", key: [device] } as const] : []),
    ...(isolated ? [{ set: "isolatedNetworks", key: [device] } as const] : []),
    ...(icc ? [] : [{ set: "iccOff", key: [device, device] } as const]),
    ...perFamily,
    ...trusted.map((name): Operation => ({ set: "trusted", key: [name, device] })),
  ];
}

const policySets = {
  4: { protected: "protected4", routed: "routed4", isolated: "isolated4" },
  6: { protected: "protected6", routed: "routed6", isolated: "isolated6" },
} as const;

/** Sets with the interface as the last word of the key, or as all of them. */
const byDevice = [
  "networkPolicies",
  "bridges",
  "internal",
  "isolatedNetworks",
  "protected4",
  "protected6",
  "routed4",
  "routed6",
  "isolated4",
  "isolated6",
] as const satisfies readonly PolicySetId[];
const byPair = ["sameBridge", "iccOff"] as const satisfies readonly PolicySetId[];

/**
 * Makes another policy hold for the interface than the one that it has, or none.
 * @param wanted undefined: none
 * @throws {NetlinkError}
 */
export async function replacePolicy(
  nftables: Nftables,
  device: IfName,
  wanted: NetworkPolicy | undefined,
): Promise<void> {
  await nftables.change((view) => {
    const present = presentPolicy(view, device);
    const add = wanted ? policyElements(device, wanted) : [];
    const asked = new Set(add.map(formatElement));
    const isSame = present.length === add.length && present.every((each) => asked.has(formatElement(each)));
    return isSame ? { remove: [], add: [] } : { remove: present, add };
  });
}

/** What the interface has, whatever policy that is. */
export function presentPolicy(view: View, device: IfName): readonly PolicyElement[] {
  const [holder] = view.read([{ set: "networkPolicies", key: [device] }]);
  const [number = 0] = holder?.value ?? [];
  const hasTrusted = Number(number) >>> 8 !== 0;
  const refs: readonly ElementRef[] = [
    ...byDevice.map((set): ElementRef => ({ set, key: [device] })),
    ...byPair.map((set): ElementRef => ({ set, key: [device, device] })),
    ...(hasTrusted ? view.list("trusted") : [])
      .filter(({ key: [, to] }) => to === device)
      .map(({ key }): ElementRef => ({ set: "trusted", key })),
  ];
  const found = view.read(refs);
  return refs.flatMap((ref, index) => {
    const present = found[index];
    return present ? [{ ...ref, ...(present.value ? { value: present.value } : {}) }] : [];
  });
}

type PolicyElement = ElementRef & { readonly value?: readonly unknown[] };

/**
 * The number of the policy that the interface has; undefined without any, as on a kernel without nf_tables.
 * @throws {NetlinkError}
 */
export async function readPolicyNumber(nftables: Nftables, device: IfName): Promise<number | undefined> {
  const present = await readIfUsable(nftables, { set: "networkPolicies", key: [device] });
  const [number] = present?.value ?? [];
  return typeof number === "number" ? number : undefined;
}

/** True for the interface of a network whose containers are routed to. @throws {NetlinkError} */
export async function isRoutedTo(nftables: Nftables, family: 4 | 6, device: IfName): Promise<boolean> {
  return (await readIfUsable(nftables, { set: policySets[family].routed, key: [device] })) !== undefined;
}

async function readIfUsable(nftables: Nftables, ref: ElementRef): Promise<PresentElement | undefined> {
  try {
    return await nftables.read(ref);
  } catch (error) {
    if (withoutNftables.some((errno) => isNetlinkError(error, errno))) return undefined;
    throw error;
  }
}

/** What a kernel says that has no netfilter sockets, or no nf_tables behind them. */
const withoutNftables = [Errno.EPROTONOSUPPORT, Errno.EINVAL, Errno.EOPNOTSUPP];

/** True for the refusal of a policy because the interface has another. */
export function isPolicyConflict(error: unknown): error is ConflictError {
  return error instanceof ConflictError && error.operation.set === "networkPolicies";
}

/**
 * Removes the policies of interfaces that no network uses any more.
 * @param inUse undefined if that is not known, and then all stay; asked again where somebody changes something meanwhile
 * @throws {NetlinkError}
 */
export async function retainPolicies(
  nftables: Nftables,
  inUse: () => ReadonlySet<string> | undefined,
): Promise<void> {
  await nftables.change((view): Change => {
    const used = inUse();
    if (!used) return { remove: [], add: [] };
    const stale = [...byDevice, ...byPair, "trusted" as const].flatMap((set): readonly ElementRef[] =>
      view
        .list(set)
        .filter(({ key }) => !used.has(key[key.length - 1] ?? ""))
        .map(({ key }) => ({ set, key }) as ElementRef),
    );
    return { remove: stale, add: [] };
  });
}

/** Sets that hold policies, for whoever lists them. */
export function isPolicySet(set: ElementRef["set"]): boolean {
  return definitionOf(set).life === "device";
}
