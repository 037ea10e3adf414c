import { sha256Hex } from "#machine/sha256.ts";

/** Whose a lease is. The reference's older versions did not record the interface. */
export interface LeaseOwner {
  readonly containerId: string;
  readonly ifName?: string;
}

/** Content of a lease file in the reference plugin's format: no line break at the end. */
export function formatLease({ containerId, ifName }: LeaseOwner): string {
  return ifName === undefined ? containerId : `${containerId}\r\n${ifName}`;
}

/**
 * Reads a lease file as the reference does, white space around it trimmed. `undefined` for one that is empty or zeros
 * only, as a power loss leaves behind a file whose data was not written yet: it is nobody's.
 */
export function parseLease(text: string): LeaseOwner | undefined {
  const trimmed = text.replaceAll("\0", "").trim();
  if (trimmed === "") return undefined;
  const lineBreak = trimmed.indexOf("\r\n");
  if (lineBreak < 0) return { containerId: trimmed };
  return { containerId: trimmed.slice(0, lineBreak), ifName: trimmed.slice(lineBreak + 2) };
}

const maxNameBytes = 255;

/**
 * The owner as a file name: `containerId:ifName`, or the id alone. Neither can have a ":" (SPEC.md, "Parameters"). What
 * can't be a file name, or would be too long a one, is replaced by its hash.
 */
export function ownerName(owner: LeaseOwner): string {
  const name = owner.ifName === undefined ? owner.containerId : `${owner.containerId}:${owner.ifName}`;
  const isUsable =
    /^[a-zA-Z0-9]/.test(name) && !/[/\0]/.test(name) && Buffer.byteLength(name) <= maxNameBytes;
  return isUsable ? name : `~${sha256Hex(formatLease(owner))}`;
}
