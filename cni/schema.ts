import * as v from "valibot";
import { CniError, ErrorCode } from "./error.ts";
import { field, isJsonObject, type JsonObject } from "./json.ts";

/**
 * A JSON object read as Go's decoder reads a struct, since that is what configs are written against: keys match
 * exactly or else in any case, `null` counts as absent, unknown keys are ignored.
 */
export function goObject<const Entries extends v.ObjectEntries>(entries: Entries) {
  const keys = Object.keys(entries);
  return v.pipe(
    v.custom<JsonObject>(isJsonObject, "must be an object"),
    v.transform((input) => {
      const folded: Record<string, unknown> = {};
      for (const key of keys) {
        const value = field(input, key);
        if (value !== undefined) folded[key] = value;
      }
      return folded;
    }),
    v.object(entries),
  );
}

/**
 * Reads untrusted JSON by a schema.
 * @param options.what what is read, for the message: "bridge configuration"
 * @throws {CniError} `options.code`, or 7, whose message lists every problem with its field and value
 */
export function parseConfig<const Schema extends v.GenericSchema>(
  schema: Schema,
  value: unknown,
  options: { readonly what: string; readonly code?: ErrorCode },
): v.InferOutput<Schema> {
  const outcome = v.safeParse(schema, value);
  if (outcome.success) return outcome.output;
  const problems = outcome.issues.flatMap((issue) => describeIssue(issue));
  throw new CniError(
    options.code ?? ErrorCode.InvalidNetworkConfig,
    `Cannot use ${options.what}: ${problems.join("; ")}`,
  );
}

/** Words for what valibot expected, where the schema brings no message of its own. */
const expectations: Readonly<Record<string, string>> = {
  string: "must be a string",
  boolean: "must be true or false",
  number: "must be a number",
  Array: "must be a list",
  Object: "must be an object",
};

function describeIssue(issue: v.BaseIssue<unknown>): string {
  const where = formatPath(issue.path ?? []);
  if (issue.input === undefined) return `${where || "value"} is missing`;
  const message = issue.message.startsWith("Invalid ")
    ? (expectations[issue.expected ?? ""] ?? `must be ${issue.expected ?? "something else"}`)
    : issue.message;
  // A message of net/ is a sentence with the value in it.
  if (message.startsWith("Cannot ")) return where ? `${where}: ${message}` : message;
  return `${where ? `${where} ` : ""}${preview(issue.input)} ${message}`;
}

function formatPath(path: readonly { readonly key?: unknown }[]): string {
  let text = "";
  for (const { key } of path) {
    text += typeof key === "number" ? `[${key}]` : `${text ? "." : ""}${String(key)}`;
  }
  return text;
}

const previewLength = 100;

/** The value as JSON, cut where it would drown the message. */
function preview(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > previewLength ? `${text.slice(0, previewLength)}…` : text;
}
