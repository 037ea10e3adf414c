/**
 * What holds for everybody behind an interface: elements without owner, which the first attachment makes and the others
 * find there. One map of each kind, the *holder*, says all of it in one number; so the kernel refuses an attachment that
 * wants something else of the same interface, in the very transaction that would add it.
 */
import type { IfName } from "#net/ifname.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import {
  type DeviceSetId,
  type ElementRef,
  formatElement,
  type Operation,
  type PresentElement,
} from "./element.ts";
import { ConflictError } from "./error.ts";
import type { Change, Nftables, View } from "./nftables.ts";

type HolderId = "networkPolicies" | "ingressPolicies";

/** The sets of one kind of policy, by what their keys are. */
export interface PolicySets {
  readonly holder: HolderId;
  /** INTERFACE */
  readonly single: readonly DeviceSetId[];
  /** INTERFACE . INTERFACE, the same twice */
  readonly pair: readonly DeviceSetId[];
  /** SOMETHING . INTERFACE */
  readonly towards?: DeviceSetId;
}

type PolicyElement = ElementRef & { readonly value?: readonly unknown[] };

/** Everything that the interface has of this kind. */
export function presentPolicy(view: View, sets: PolicySets, device: IfName): readonly PolicyElement[] {
  const { holder, single, pair, towards } = sets;
  // Without the holder there is nothing: it comes and goes with the rest.
  if (!view.read([{ set: holder, key: [device] }])[0]) return [];
  const refs = [
    { set: holder, key: [device] },
    ...single.map((set) => ({ set, key: [device] })),
    ...pair.map((set) => ({ set, key: [device, device] })),
    ...(towards ? view.list(towards) : [])
      .filter(({ key }) => key[key.length - 1] === device)
      .map(({ key }) => ({ set: towards, key })),
  ] as readonly ElementRef[];
  const found = view.read(refs);
  return refs.flatMap((ref, index) => {
    const present = found[index];
    return present ? [{ ...ref, ...(present.value ? { value: present.value } : {}) }] : [];
  });
}

/**
 * Makes the interface have exactly these elements of the kind.
 * @param policy.agree throws where somebody wants others; asked again where somebody changes something meanwhile
 * @throws {NetlinkError}
 */
export async function replacePolicy(
  nftables: Nftables,
  sets: PolicySets,
  policy: {
    readonly device: IfName;
    readonly elements: readonly Operation[];
    readonly agree: () => void;
  },
): Promise<void> {
  const { device, elements, agree } = policy;
  await nftables.change((view) => {
    agree();
    const present = presentPolicy(view, sets, device);
    const wanted = new Set(elements.map(formatElement));
    const isSame = present.length === wanted.size && present.every((each) => wanted.has(formatElement(each)));
    return isSame ? { remove: [], add: [] } : { remove: present, add: elements };
  });
}

/**
 * Removes what there is of the kind for interfaces that nobody is behind any more.
 * @param inUse undefined if that is not known, and then all stays; asked again where somebody changes something meanwhile
 * @throws {NetlinkError}
 */
export async function retainPolicies(
  nftables: Nftables,
  sets: PolicySets,
  inUse: () => ReadonlySet<string> | undefined,
): Promise<void> {
  const { holder, single, pair, towards } = sets;
  await nftables.change((view): Change => {
    const used = inUse();
    if (!used) return { remove: [], add: [] };
    const stale = [holder, ...single, ...pair, ...(towards ? [towards] : [])].flatMap((set) =>
      view
        .list(set)
        .filter(({ key }) => !used.has(key[key.length - 1] ?? ""))
        .map(({ key }) => ({ set, key }) as ElementRef),
    );
    return { remove: stale, add: [] };
  });
}

/**
 * The number that the interface's policy is; undefined without any, as on a kernel without nf_tables.
 * @throws {NetlinkError}
 */
export async function readPolicyNumber(
  nftables: Nftables,
  { holder }: PolicySets,
  device: IfName,
): Promise<number | undefined> {
  const present = await readIfUsable(nftables, { set: holder, key: [device] });
  const [number] = present?.value ?? [];
  return typeof number === "number" ? number : undefined;
}

/** True for the refusal of a policy because the interface has another. */
export function isPolicyConflict(error: unknown, { holder }: PolicySets): boolean {
  return error instanceof ConflictError && error.operation.set === holder;
}

/** What a kernel says that has no netfilter sockets, or no nf_tables behind them. */
const withoutNftables = [Errno.EPROTONOSUPPORT, Errno.EINVAL, Errno.EOPNOTSUPP];

/** Reads an element for who can do without nftables altogether. @throws {NetlinkError} */
export async function readIfUsable(nftables: Nftables, ref: ElementRef): Promise<PresentElement | undefined> {
  try {
    return await nftables.read(ref);
  } catch (error) {
    if (withoutNftables.some((errno) => isNetlinkError(error, errno))) return undefined;
    throw error;
  }
}
