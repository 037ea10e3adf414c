import { sha256Hex } from "#machine/sha256.ts";
import type { AttachmentKey } from "./record.ts";

/** NAME_MAX of every file system in use (include/uapi/linux/limits.h). */
const maxNameBytes = 255;

/** Stands before the hash of a container id; no container id begins with it. */
const hashMark = "~";

export interface RecordWords {
  readonly containerId: string;
  readonly ifName: string;
  readonly plugin: string;
}

/**
 * File name of a record: `containerId:ifName:plugin`. None of the three may have a ":" (SPEC.md, "Parameters"). A
 * container id that makes the name too long is replaced by its hash.
 */
export function recordName(key: AttachmentKey, plugin: string): string {
  const name = `${key.containerId}:${key.ifName}:${plugin}`;
  if (Buffer.byteLength(name) <= maxNameBytes || key.containerId.startsWith(hashMark)) return name;
  return `${hashMark}${sha256Hex(key.containerId)}:${key.ifName}:${plugin}`;
}

/** What a file name says; `undefined` for a file that is no record. */
export function parseRecordName(name: string): RecordWords | undefined {
  const [containerId, ifName, plugin, ...rest] = name.split(":");
  if (!containerId || !ifName || !plugin || rest.length > 0) return undefined;
  // An editor's or a copier's temporary file begins with a dot.
  if (!/^[a-zA-Z0-9~]/.test(containerId)) return undefined;
  return { containerId, ifName, plugin };
}

/** True if the container's id is not known by the file's name alone. */
export function isHashed({ containerId }: RecordWords): boolean {
  return containerId.startsWith(hashMark);
}
