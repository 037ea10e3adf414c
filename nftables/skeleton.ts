/**
 * The rules of the suite. They never change while attachments come and go: all that grows are the sets and
 * maps of `element.ts`, so that an operation costs the same with one attachment or ten thousand, and a packet
 * passes a fixed number of hash look-ups.
 *
 * The text is nft's own language, because nft 1.0.6 can't declare every map in JSON. It is loaded as a whole in
 * one transaction, which keeps the elements of sets that are there already: chains are flushed and written
 * anew, sets, base chains and the operator's own chain are only declared. So a set's type and a base chain's hook never change under one
 * name; a new version takes a new name and lists the old one under `retired`.
 *
 * How it is noticed that the skeleton is gone or is another version's: each transaction also "adds" the element
 * `0 : skeletonVersion` to the map `skeleton`. The kernel answers ENOENT without the table, EEXIST where another
 * version stands there, and otherwise nothing happens.
 */
import { declareSet, definitionOf, type SetId, sets } from "./element.ts";
import type { NftChain, NftListing } from "./json.ts";
import { type SetDefinition, type TableFamily, tableName } from "./set-definition.ts";
import type { Chain } from "./skeleton-chain.ts";
import { forwardChains } from "./skeleton-forward.ts";
import { masqueradeChains, masqueradeRules } from "./skeleton-masquerade.ts";
import { overlayChains } from "./skeleton-overlay.ts";
import { hairpinRules, portChains } from "./skeleton-ports.ts";
import { spoofChains } from "./skeleton-spoof.ts";

/** Raise with every change of the text below. */
export const skeletonVersion = 6;

/**
 * One file for each concern; the order of what they share stands here. Priorities are numbers: nft 1.0.6 refuses some
 * of their names in some hooks. Chains stand before the chains that jump to them.
 */
const chains: Readonly<Record<TableFamily, readonly Chain[]>> = {
  inet: [
    ...overlayChains,
    ...portChains,
    ...forwardChains,
    ...masqueradeChains,
    {
      name: "postrouting",
      hook: "type nat hook postrouting priority 100; policy accept;",
      rules: [...hairpinRules, ...masqueradeRules],
    },
  ],
  bridge: spoofChains,
};

/** Chains of earlier versions that this one no longer has. */
const retired: Readonly<Record<TableFamily, readonly string[]>> = { inet: [], bridge: [] };

/** The chains and rules as they should be, for the comparison with what the kernel has. */
export function skeletonChains(family: TableFamily): readonly Chain[] {
  return chains[family];
}

/** The element that says which skeleton is loaded. */
export function skeletonMarker(family: TableFamily) {
  const set = family === "inet" ? "skeletonInet" : "skeletonBridge";
  return { set, key: [0], value: [skeletonVersion] } as const;
}

/**
 * "damaged": of this version, but not with its chains and rules; after `nft flush table`, for instance. "extended": with
 * further rules in its chains, which another hand has put there.
 */
export type SkeletonState = "current" | "extended" | "outdated" | "damaged" | "missing";

/**
 * Compares our table as nft lists it with what it should be: each chain's hook and number of rules, and each
 * set's type. Chains and sets of our table that are not ours are left out of account.
 * @param version the marker's value; `undefined` if there is none
 */
export function compareSkeleton(
  family: TableFamily,
  version: unknown,
  listing: NftListing | undefined,
): SkeletonState {
  if (!listing) return "missing";
  if (version !== skeletonVersion) return "outdated";
  let isExtended = false;
  const chainsOk = chains[family].every((chain) => {
    const present = listing.chains.find((candidate) => candidate.name === chain.name);
    const count = listing.rules.filter((rule) => rule.chain === chain.name).length;
    if (count > chain.rules.length && chain.isUsers !== true) isExtended = true;
    return present && count >= chain.rules.length && hookOf(present) === (chain.hook ?? "");
  });
  const setsOk = setsOf(family).every((definition) => {
    const present = listing.sets.find((candidate) => candidate.name === definition.name);
    return present?.key.join() === definition.key.map((field) => field.type).join();
  });
  if (!chainsOk || !setsOk) return "damaged";
  return isExtended ? "extended" : "current";
}

function hookOf({ base }: NftChain): string {
  return base ? `type ${base.type} hook ${base.hook} priority ${base.priority}; policy ${base.policy};` : "";
}

function setsOf(family: TableFamily): readonly SetDefinition[] {
  return (Object.keys(sets) as SetId[])
    .map(definitionOf)
    .filter((definition) => definition.family === family);
}

/** One transaction in nft's language, to be run by `nft`; the same text repairs, upgrades and does nothing. */
export function skeletonText(family: TableFamily): string {
  const table = `${family} ${tableName}`;
  const declarations = setsOf(family).map((definition) => `  ${declareSet(definition)}`);
  const bases = chains[family].map((chain) => `  chain ${chain.name} { ${chain.hook ?? ""} }`);
  // Declared first, so that the deletion does not fail where the chain never was.
  const leavers = retired[family].map((name) => `  chain ${name} { }`);
  return [
    `table ${table} {`,
    ...declarations,
    ...bases,
    ...leavers,
    "}",
    `flush map ${table} skeleton`,
    ...chains[family]
      .filter((chain) => chain.isUsers !== true)
      .map((chain) => `flush chain ${table} ${chain.name}`),
    ...retired[family].map((name) => `flush chain ${table} ${name}`),
    ...chains[family].flatMap((chain) =>
      chain.rules.map((rule) => `add rule ${table} ${chain.name} ${rule}`),
    ),
    ...retired[family].map((name) => `delete chain ${table} ${name}`),
    `add element ${table} skeleton { 0 : ${skeletonVersion} }`,
    "",
  ].join("\n");
}
