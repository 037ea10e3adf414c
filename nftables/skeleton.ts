/**
 * The rules of the suite. They never change while attachments come and go: all that grows are the sets and
 * maps of `element.ts`, so that an operation costs the same with one attachment or ten thousand, and a packet
 * passes a fixed number of hash look-ups. What only some hosts need is an optional part, loaded with the first element
 * that its rules look up.
 *
 * The text is nft's own language, because nft 1.0.6 can't declare every map in JSON. It is loaded as a whole in
 * one transaction, which keeps the elements of sets that are there already: chains are flushed and written
 * anew, sets, base chains and the operator's own chain are only declared. So a set's type and a base chain's hook never change under one
 * name; a new version takes a new name and lists the old one under `retired`.
 *
 * How it is noticed that the skeleton is gone or is another version's: each transaction also "adds" the element
 * `0 : skeletonVersion` to the map `skeleton`, and to the one of each optional part that it needs. The kernel answers ENOENT without the table, EEXIST where another
 * version stands there, and otherwise nothing happens.
 */
import { declareSet, definitionOf, type SetId, sets } from "./element.ts";
import type { NftChain, NftListing } from "./json.ts";
import { type OptionalPart, type SetDefinition, type TableFamily, tableName } from "./set-definition.ts";
import type { Chain } from "./skeleton/chain.ts";
import { forwardChains } from "./skeleton/forward.ts";
import { loopbackChains } from "./skeleton/loopback.ts";
import { masqueradeChains, masqueradeRules } from "./skeleton/masquerade.ts";
import { overlayChains } from "./skeleton/overlay.ts";
import { hairpinRules, portChains } from "./skeleton/ports.ts";
import { spoofChains } from "./skeleton/spoof.ts";

/** Raise with every change of the text below. */
export const skeletonVersion = 11;

/** What has a version of its own in the kernel: the rules of a table, and what some hosts need besides. */
export type SkeletonPart = TableFamily | OptionalPart;

/** Optional parts that are, or have to be, loaded. */
export type Extras = ReadonlySet<OptionalPart>;

interface PartDefinition {
  readonly family: TableFamily;
  /** The map with the version. An optional part's is there where the part is. */
  readonly marker:
    | "skeletonInet"
    | "skeletonBridge"
    | "skeletonGuards"
    | "skeletonPolicies"
    | "skeletonOverlay"
    | "skeletonOtherPort";
}

const parts: Readonly<Record<SkeletonPart, PartDefinition>> = {
  inet: { family: "inet", marker: "skeletonInet" },
  guards: { family: "inet", marker: "skeletonGuards" },
  policies: { family: "inet", marker: "skeletonPolicies" },
  overlay: { family: "inet", marker: "skeletonOverlay" },
  otherPort: { family: "inet", marker: "skeletonOtherPort" },
  bridge: { family: "bridge", marker: "skeletonBridge" },
};

const optionalParts = [
  "guards",
  "policies",
  "overlay",
  "otherPort",
] as const satisfies readonly OptionalPart[];

/**
 * One file for each concern; the order of what they share stands here. Priorities are numbers: nft 1.0.6 refuses some
 * of their names in some hooks. Chains stand before the chains that jump to them.
 *
 * Every packet pays for each base chain of type filter that it passes, more than for the first rules in it; chains of
 * type nat see the first packet of a connection alone.
 */
const chains: Readonly<Record<TableFamily, (extras: Extras) => readonly Chain[]>> = {
  inet: (extras) => [
    ...loopbackChains,
    ...portChains,
    ...(extras.has("overlay") ? overlayChains(extras) : []),
    ...forwardChains(extras),
    ...masqueradeChains,
    {
      name: "postrouting",
      hook: "type nat hook postrouting priority 100; policy accept;",
      rules: [...hairpinRules, ...masqueradeRules],
    },
  ],
  bridge: () => spoofChains,
};

/** Chains of earlier versions that this one no longer has. */
const retired: Readonly<Record<TableFamily, readonly string[]>> = {
  inet: ["raw_prerouting", "vxlan_leaves", "vxlan_arrives", "vxlan_passes", "vxlan_fits", "overlay_forward"],
  bridge: [],
};

/** Sets of earlier versions that nothing looks up any more, with their types. */
const retiredSets: Readonly<Record<TableFamily, readonly (readonly [name: string, type: string])[]>> = {
  inet: [
    ["vtep_pairs4", "ipv4_addr . ipv4_addr"],
    ["vtep_pairs6", "ipv6_addr . ipv6_addr"],
    ["vxlan_ways4", "ifname . ipv4_addr . ipv4_addr . inet_service"],
    ["vxlan_ways6", "ifname . ipv6_addr . ipv6_addr . inet_service"],
  ],
  bridge: [],
};

export function optionalPartsOf(family: TableFamily): readonly OptionalPart[] {
  return optionalParts.filter((part) => parts[part].family === family);
}

export function tableOf(part: SkeletonPart): TableFamily {
  return parts[part].family;
}

/** What has to be loaded for an element to mean something, the table's own rules first. */
export function partsFor({
  set,
  key,
}: {
  readonly set: SetId;
  readonly key: readonly unknown[];
}): readonly SkeletonPart[] {
  const { family, part, further } = definitionOf(set);
  return [family, ...(part ? [part] : []), ...(further?.isNeeded(key) ? [further.part] : [])];
}

/** The chains and rules as they should be, for the comparison with what the kernel has. */
export function skeletonChains(family: TableFamily, extras: Extras): readonly Chain[] {
  return chains[family](extras);
}

/** The sets whose elements, or some of them, mean nothing without the part's rules. */
export function setsOfPart(part: OptionalPart): readonly SetId[] {
  return (Object.keys(sets) as SetId[]).filter((id) => {
    const definition = definitionOf(id);
    const isItsOwn = definition.part === part || definition.further?.part === part;
    return isItsOwn && definition.life !== "skeleton";
  });
}

/** The element that says which version of the part is loaded. */
export function skeletonMarker(part: SkeletonPart) {
  return { set: parts[part].marker, key: [0], value: [skeletonVersion] } as const;
}

/**
 * "damaged": of this version, but not with its chains and rules; after `nft flush table`, for instance. "extended": with
 * further rules in its chains, which another hand has put there.
 */
export type SkeletonState = "current" | "extended" | "outdated" | "damaged" | "missing";

/** What nft and the markers say of one of our tables. */
export interface SkeletonFound {
  readonly listing: NftListing | undefined;
  /** The markers' values, of the table's own rules and of each of `extras`; `undefined` for one that is not there. */
  readonly versions: readonly unknown[];
  /** What is loaded, or has to be. */
  readonly extras: Extras;
}

/**
 * Compares our table as nft lists it with what it should be: each chain's hook and number of rules, and each
 * set's type. Chains and sets of our table that are not ours are left out of account.
 */
export function compareSkeleton(
  family: TableFamily,
  { listing, versions, extras }: SkeletonFound,
): SkeletonState {
  if (!listing) return "missing";
  if (versions.some((version) => version !== skeletonVersion)) return "outdated";
  let isExtended = false;
  const chainsOk = skeletonChains(family, extras).every((chain) => {
    const present = listing.chains.find((candidate) => candidate.name === chain.name);
    const count = listing.rules.filter((rule) => rule.chain === chain.name).length;
    if (count > chain.rules.length && chain.isUsers !== true) isExtended = true;
    return present && count >= chain.rules.length && hookOf(present) === (chain.hook ?? "");
  });
  const setsOk = setsOf(family, extras).every((definition) => {
    const present = listing.sets.find((candidate) => candidate.name === definition.name);
    return present?.key.join() === definition.key.map((field) => field.type).join();
  });
  if (!chainsOk || !setsOk) return "damaged";
  return isExtended ? "extended" : "current";
}

function hookOf({ base }: NftChain): string {
  return base ? `type ${base.type} hook ${base.hook} priority ${base.priority}; policy ${base.policy};` : "";
}

/** All sets of the table; of the optional parts' markers only those that are wanted. */
function setsOf(family: TableFamily, extras: Extras): readonly SetDefinition[] {
  return (Object.keys(sets) as SetId[])
    .map(definitionOf)
    .filter(({ life, part }) => life !== "skeleton" || part === undefined || extras.has(part))
    .filter((definition) => definition.family === family);
}

/**
 * One transaction in nft's language, to be run by `nft`; the same text repairs, upgrades and does nothing. It fails
 * where an optional part is loaded that is not among `extras`: its rules would be gone.
 */
export function skeletonText(family: TableFamily, extras: Extras): string {
  const table = `${family} ${tableName}`;
  const wanted = skeletonChains(family, extras);
  const gone = retired[family];
  const absent = optionalPartsOf(family).filter((part) => !extras.has(part));
  const present = [family, ...optionalPartsOf(family).filter((part) => extras.has(part))];
  const markerOf = (part: SkeletonPart) => definitionOf(parts[part].marker);
  return [
    `table ${table} {`,
    ...setsOf(family, extras).map((definition) => `  ${declareSet(definition)}`),
    ...wanted.map((chain) => `  chain ${chain.name} { ${chain.hook ?? ""} }`),
    // Declared first, so that the deletion does not fail where the chain never was.
    ...gone.map((name) => `  chain ${name} { }`),
    ...retiredSets[family].map(([name, type]) => `  set ${name} { type ${type}; }`),
    "}",
    // "create" refuses what is there.
    ...absent.flatMap((part) => [
      `create map ${table} ${markerOf(part).name} { type mark : mark; }`,
      `delete map ${table} ${markerOf(part).name}`,
    ]),
    ...present.map((part) => `flush map ${table} ${markerOf(part).name}`),
    ...wanted.filter((chain) => chain.isUsers !== true).map((chain) => `flush chain ${table} ${chain.name}`),
    ...gone.map((name) => `flush chain ${table} ${name}`),
    ...wanted.flatMap((chain) => chain.rules.map((rule) => `add rule ${table} ${chain.name} ${rule}`)),
    ...gone.map((name) => `delete chain ${table} ${name}`),
    ...retiredSets[family].map(([name]) => `delete set ${table} ${name}`),
    ...present.map((part) => `add element ${table} ${markerOf(part).name} { 0 : ${skeletonVersion} }`),
    "",
  ].join("\n");
}
