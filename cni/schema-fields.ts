import type * as v from "valibot";
import { isJsonObject, type JsonObject } from "./json.ts";

/** A field that no schema knows: where it stands, and what stands beside it. */
export interface UnknownField {
  /** Keys and indices from the value that was looked at: `["ranges", 0, "subent"]`. */
  readonly path: readonly (string | number)[];
  /** The names that are known there. */
  readonly known: readonly string[];
}

/** Every field of a value that a schema of `goObject`s passes over, as Go's decoder does with what it does not know. */
export function unknownFields(schema: v.GenericSchema, value: unknown): readonly UnknownField[] {
  return visit(schema, value, []);
}

function visit(schema: unknown, value: unknown, path: UnknownField["path"]): readonly UnknownField[] {
  const inner = innermost(schema);
  const entries = entriesOf(inner);
  if (entries !== undefined) return isJsonObject(value) ? visitObject(entries, value, path) : [];
  const item = (inner as { readonly item?: unknown }).item;
  if (item === undefined || !Array.isArray(value)) return [];
  return (value as readonly unknown[]).flatMap((each, index) => visit(item, each, [...path, index]));
}

function visitObject(
  entries: Readonly<Record<string, unknown>>,
  value: JsonObject,
  path: UnknownField["path"],
): readonly UnknownField[] {
  const known = Object.keys(entries);
  return Object.entries(value).flatMap(([key, below]) => {
    const name = known.find((each) => each.toLowerCase() === key.toLowerCase());
    if (name === undefined) return [{ path: [...path, key], known }];
    return visit(entries[name], below, [...path, key]);
  });
}

/** Below `optional` and its like. */
function innermost(schema: unknown): object {
  let current = schema as { readonly wrapped?: unknown };
  while (current.wrapped !== undefined) current = current.wrapped as { readonly wrapped?: unknown };
  return current;
}

/** Of a `goObject`, whose last step is the object itself. */
function entriesOf(schema: object): Readonly<Record<string, unknown>> | undefined {
  const { pipe = [schema] } = schema as { readonly pipe?: readonly object[] };
  for (const step of pipe) {
    if ("entries" in step && (step as { readonly type?: unknown }).type === "object") {
      return step.entries as Readonly<Record<string, unknown>>;
    }
  }
  return undefined;
}
