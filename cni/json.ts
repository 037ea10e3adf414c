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
  for (const [candidate, value] of Object.entries(object)) {
    if (candidate.toLowerCase() === folded) found = value;
  }
  return found ?? undefined;
}
