import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";

/** What is read of a bundle's config.json: OCI runtime specification 1.0, config.md. */
const schema = v.object({
  annotations: v.optional(v.record(v.string(), v.string()), {}),
  mounts: v.optional(v.array(v.object({ destination: v.string(), source: v.optional(v.string(), "") })), []),
});

export type Bundle = v.InferOutput<typeof schema>;

/** @returns undefined where there is none that can be read: its container has ended meanwhile */
export function readBundle(directory: string): Bundle | undefined {
  try {
    return v.parse(schema, JSON.parse(readFileSync(join(directory, "config.json"), "utf8")));
  } catch {
    return undefined;
  }
}

/** The number in a pid file; undefined where there is none. */
export function readPid(path: string): number | undefined {
  try {
    const pid = Number(readFileSync(path, "utf8").trim());
    return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}
