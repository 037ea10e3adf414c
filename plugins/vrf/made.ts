import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { ifName, int } from "#cni/schema-values.ts";
import type { JournalRecord } from "#journal/record.ts";

const schema = goObject({ vrf: ifName, table: int(), ifindex: int() });

/**
 * What the journal keeps of an attachment: enough to take the interface out when the configuration is gone. Written
 * before it is put in.
 */
export type Made = v.InferOutput<typeof schema>;

export function encodeMade({ vrf, table, ifindex }: Made): JsonObject {
  return { vrf, table, ifindex };
}

/** What a record says was made; undefined for one that is torn or of a program that wrote it otherwise. */
export function decodeMade(record: JournalRecord | undefined): Made | undefined {
  if (!record || record.phase === "torn") return undefined;
  const { success, output } = v.safeParse(schema, record.made);
  return success ? output : undefined;
}

/** The alias of a VRF that this plugin has made: it removes no other when its last interface leaves. */
export const ownAlias = "netctl vrf";
