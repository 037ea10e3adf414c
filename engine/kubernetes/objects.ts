import { randomBytes } from "node:crypto";
import type { Entry } from "#engine/engine.ts";
import { sha256Hex } from "#machine/sha256.ts";

/** The group and version of our resources: deploy/kubernetes/crd.yaml. */
export const group = "netctl.io";
export const apiVersion = `${group}/v1`;
/** Marks leases of ours among all of a namespace; on entries it says with which lease they go. */
export const leaseLabel = `${group}/lease`;
/** Annotation of an entry: which write it is of. */
const writeAnnotation = `${group}/write`;

interface Metadata {
  readonly name: string;
  readonly resourceVersion?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** One key and its value. */
export interface EntryObject {
  readonly apiVersion: string;
  readonly kind: "Entry";
  readonly metadata: Metadata;
  readonly spec: { readonly key: string; readonly value: string };
}

/** coordination.k8s.io/v1 */
export interface LeaseObject {
  readonly apiVersion: "coordination.k8s.io/v1";
  readonly kind: "Lease";
  readonly metadata: Metadata;
  readonly spec: { readonly leaseDurationSeconds: number; readonly renewTime: string };
}

export interface ListObject<T> {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items: readonly T[];
}

/** An object's name: keys have characters that names may not have, and may be longer. */
export function nameOf(key: string): string {
  return `e-${sha256Hex(key).slice(0, 40)}`;
}

/**
 * An object to be written once. The API server takes an update that changes nothing for none: it gives no new version,
 * and tells no watch. So each write is made to differ from all others, and can be told from them as well.
 */
export function entryObject(key: string, value: string, more: Partial<Metadata> = {}): EntryObject {
  const annotations = { [writeAnnotation]: randomBytes(8).toString("hex") };
  return {
    apiVersion,
    kind: "Entry",
    metadata: { name: nameOf(key), annotations, ...more },
    spec: { key, value },
  };
}

/** Whether what is there was left by this very write. */
export function isOfWrite(present: EntryObject, written: EntryObject): boolean {
  return present.metadata.annotations?.[writeAnnotation] === written.metadata.annotations?.[writeAnnotation];
}

/** An object that somebody has made by hand under another name, or has given another key, is no entry. */
export function isEntry({ metadata, spec }: EntryObject): boolean {
  return metadata.name === nameOf(spec.key);
}

export function entryOf({ metadata, spec }: EntryObject): Entry {
  return { key: spec.key, value: spec.value, revision: revisionOf(metadata.resourceVersion) };
}

/**
 * Resource versions are the revisions of the API server's store: numbers that grow over all objects of a resource, and
 * may be compared (Kubernetes enhancement 5504).
 */
export function revisionOf(resourceVersion: string | undefined): number {
  const revision = Number(resourceVersion);
  if (!Number.isSafeInteger(revision))
    throw new Error(`Cannot use resource version ${JSON.stringify(resourceVersion)}: it is no number`);
  return revision;
}
