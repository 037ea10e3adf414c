import type { Entry } from "#engine/engine.ts";
import { sha256Hex } from "#machine/sha256.ts";

/** The group and version of our resources: deploy/kubernetes/crd.yaml. */
export const group = "netctl.io";
export const apiVersion = `${group}/v1`;
/** Marks leases of ours among all of a namespace; on entries it says with which lease they go. */
export const leaseLabel = `${group}/lease`;

interface Metadata {
  readonly name: string;
  readonly resourceVersion?: string;
  readonly labels?: Readonly<Record<string, string>>;
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

export function entryObject(key: string, value: string, more: Partial<Metadata> = {}): EntryObject {
  return { apiVersion, kind: "Entry", metadata: { name: nameOf(key), ...more }, spec: { key, value } };
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
