import type { AnyField } from "./field.ts";

/** The suite has one table in each of these families, always under the same name. */
export type TableFamily = "inet" | "bridge";
export const tableName = "netctl";

/**
 * Rules that only some hosts need, and that cost every packet where they are. They are loaded when the first element
 * comes that they look up.
 */
export type OptionalPart = "guards" | "policies" | "overlay" | "otherPort";

/**
 * A set or, with `value`, a map of the skeleton. Its declaration in nft's language, the bytes of its elements
 * and the reading of `nft -j` all follow from the row.
 */
export interface SetDefinition {
  readonly family: TableFamily;
  /** Its name in the table. A changed key or value needs a new name: the kernel can't alter a set's type. */
  readonly name: string;
  /** Several fields are a concatenation. */
  readonly key: readonly AnyField[];
  readonly value?: readonly AnyField[];
  /**
   * "attachment": each element has an owner, who alone removes it. "network": a subnet, shared by its attachments,
   * without owner. "device": what holds for an interface that containers are behind, shared by their attachments,
   * without owner. "host": a fact about the host that several attachments rely on, without owner. "skeleton": the
   * skeleton's own marker.
   */
  readonly life: "attachment" | "network" | "device" | "host" | "skeleton";
  /** The optional part whose rules look it up: without them its elements mean nothing. */
  readonly part?: OptionalPart;
  /** One more part, which only some of its elements need. */
  readonly further?: { readonly part: OptionalPart; readonly isNeeded: (key: readonly unknown[]) => boolean };
}

/** True for the suite's own tables, and for those of one attachment each. */
export function isOwnTable(name: string): boolean {
  return name === tableName || name.startsWith(`${tableName}_`);
}
