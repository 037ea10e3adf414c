import { sha256Hex } from "#machine/sha256.ts";

declare const ownerBrand: unique symbol;

/**
 * Who an element belongs to, as its comment says it: 16 hex digits of a hash, then the words that were hashed,
 * for people. `nft list` shows it as `comment "5f0c… mynet eth0 3c9a…"`.
 */
export type OwnerTag = string & { readonly [ownerBrand]: true };

/** An owner tag read back. The words are for people: they may be cut, and odd characters are replaced. */
export interface Owner {
  readonly hash: string;
  readonly network: string;
  readonly ifName: string;
  readonly containerId: string;
}

/** NFTNL_UDATA_COMMENT_MAXLEN of libnftnl is 128 with the terminating zero; nft refuses to write more. */
const maxCommentBytes = 127;
const maxNetworkBytes = 32;
const maxIfNameBytes = 15;

/** What nft prints unquoted and unescaped inside a comment, and what splits the tag into words. */
function readable(text: string, maxBytes: number): string {
  const word = text.replace(/[^A-Za-z0-9_.:@+-]/gu, "_").slice(0, maxBytes);
  return word === "" ? "-" : word;
}

/** The tag of one attachment. Two attachments have the same tag only if all three words are the same. */
export function ownerTag(network: string, containerId: string, ifName: string): OwnerTag {
  const hash = sha256Hex(JSON.stringify([network, containerId, ifName]));
  const head = `${hash.slice(0, 16)} ${readable(network, maxNetworkBytes)} ${readable(ifName, maxIfNameBytes)} `;
  return `${head}${readable(containerId, maxCommentBytes - head.length)}` as OwnerTag;
}

/** Reads a tag out of an element's comment; `undefined` for any other comment. */
export function parseOwnerTag(comment: string): Owner | undefined {
  const match = /^([0-9a-f]{16}) (\S+) (\S+) (\S+)$/.exec(comment);
  if (!match) return undefined;
  const [, hash = "", network = "", ifName = "", containerId = ""] = match;
  return { hash, network, ifName, containerId };
}

/** True if both are tags with the same hash. A comment that is no tag belongs to nobody. */
export function sameOwner(a: string, b: string): boolean {
  const hash = parseOwnerTag(a)?.hash;
  return hash !== undefined && hash === parseOwnerTag(b)?.hash;
}

/** True if the tag says that container; the tag may hold the id's beginning only. */
export function isOfContainer(owner: Owner, containerId: string): boolean {
  const head = `${owner.hash} ${owner.network} ${owner.ifName} `;
  return owner.containerId === readable(containerId, maxCommentBytes - head.length);
}
