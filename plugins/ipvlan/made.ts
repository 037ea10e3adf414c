import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { oneOf } from "#cni/schema-values.ts";
import type { Json } from "#journal/record.ts";
import { parentSchema } from "#plugins/parent-link.ts";

const schema = goObject({
  parent: parentSchema,
  mode: oneOf(["l2", "l3", "l3s"]),
  flag: oneOf(["bridge", "private", "vepa"]),
});

/** What the journal keeps of an attachment: enough to take everything away without the namespace or the configuration. */
export type Made = v.InferOutput<typeof schema>;

export function encodeMade(made: Made): JsonObject {
  return made;
}

export function decodeMade(made: Json): Made | undefined {
  const outcome = v.safeParse(schema, made);
  return outcome.success ? outcome.output : undefined;
}
