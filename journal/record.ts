import type { ProcessIdentity } from "#machine/process-identity.ts";

/** What `JSON.parse` gives; the same shape as in cni/, which this folder does not know. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonRecord = { readonly [key: string]: Json };

/** One interface of one container in one network: what the CNI specification calls an attachment. */
export interface AttachmentKey {
  readonly network: string;
  readonly containerId: string;
  readonly ifName: string;
}

/** What is known before the first side effect. */
export interface Intent {
  readonly key: AttachmentKey;
  /** Type name of the plugin: each of a chain has a record of its own. */
  readonly plugin: string;
  /** The container's namespace, where the verb has one. */
  readonly netns?: { readonly path: string; readonly dev: number; readonly ino: number } | undefined;
  /** The request configuration without prevResult. */
  readonly config: JsonRecord;
  /** CNI_ARGS, in order. */
  readonly args: readonly (readonly [key: string, value: string])[];
  /** Everything that will be made, in the plugin's own words: enough to remove it without netns, config or result. */
  readonly made: Json;
}

export interface BeginOptions {
  /**
   * Whether to wait until the record is on the disk; true if absent. False where nothing that is made after it outlives
   * a power loss: the kernel's objects do not, and leases of this suite carry the boot in which they were given out. What
   * a foreign IPAM plugin notes elsewhere may.
   */
  readonly durable?: boolean;
}

/** A record whose first line is whole. Lines after it that are not whole count as never written. */
export interface IntactRecord extends Intent {
  /**
   * "intent": ADD has not ended, or ended without success. "done": it succeeded. "leaving": a DEL has begun, so that any
   * part of it may be gone.
   */
  readonly phase: "intent" | "done" | "leaving";
  /** /proc/sys/kernel/random/boot_id when it was made. */
  readonly bootId: string;
  readonly writer: ProcessIdentity;
  /** In which the host's side was made; absent where the writer did not say. */
  readonly hostNamespace?: { readonly dev: number; readonly ino: number } | undefined;
  readonly createdAtMs: number;
  /** What `complete()` was given. */
  readonly result?: Json;
}

/**
 * A record that can't be read: power loss, a writer killed in the middle, a damaged disk, or a writer that is at it
 * right now. What it was for is known from the file's name; remove what the plugin would have named after it.
 */
export interface TornRecord {
  readonly phase: "torn";
  /** `containerId` may be a hash beginning with "~" if it was too long for a file name. */
  readonly key: AttachmentKey;
  readonly plugin: string;
}

export type JournalRecord = IntactRecord | TornRecord;

/** A record that there is. */
export interface DatedRecord {
  /** Names it among all. */
  readonly path: string;
  readonly date: RecordDate;
  /** Undefined where it has gone meanwhile. */
  readonly read: () => JournalRecord | undefined;
}

/** When a record was read that was last written at `modifiedNs`: enough to see later whether it is still the same. */
export interface RecordDate {
  readonly modifiedNs: bigint;
  readonly readAtMs: number;
}
