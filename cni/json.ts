export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Reads a field as Go's decoder does: the exact key first, else one that differs in case only (the last of
 * several). `null` counts as absent, as it leaves a Go field at its zero value.
 */
export function field(object: JsonObject, key: string): JsonValue | undefined {
  const exact = object[key];
  if (exact !== undefined && Object.hasOwn(object, key)) return exact ?? undefined;
  const folded = key.toLowerCase();
  let found: JsonValue | undefined;
  for (const candidate in object) {
    // No key that is written otherwise folds into one of another length, unless it is not ASCII, as none of ours is.
    if (candidate.length !== key.length || candidate.toLowerCase() !== folded) continue;
    if (Object.hasOwn(object, candidate)) found = object[candidate];
  }
  return found ?? undefined;
}
