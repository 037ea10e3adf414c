import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { ifName, int, oneOf } from "#cni/schema-values.ts";
import type { JournalRecord } from "#journal/record.ts";

const schema = goObject({
  place: oneOf(["host", "container"]),
  device: v.string(),
  ifindex: int(),
  leaving: v.boolean(),
  arriving: v.exactOptional(
    goObject({
      /** The link through which it is led. */
      ifb: ifName,
      /** Whether the qdisc that holds the filters is ours as well. */
      ownsQdisc: v.boolean(),
      filters: int(),
    }),
  ),
});

/**
 * What the journal keeps of an attachment: enough to take everything away when namespace and configuration are gone.
 * Written before anything is made, so all of it may be missing.
 */
export type Made = v.InferOutput<typeof schema>;

export function encodeMade({ place, device, ifindex, leaving, arriving }: Made): JsonObject {
  return { place, device, ifindex, leaving, ...(arriving ? { arriving: { ...arriving } } : {}) };
}

/** What a record says was made; undefined for one that is torn or of a program that wrote it otherwise. */
export function decodeMade(record: JournalRecord | undefined): Made | undefined {
  if (!record || record.phase === "torn") return undefined;
  const { success, output } = v.safeParse(schema, record.made);
  return success ? output : undefined;
}
