import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { errorCode, IoError } from "#machine/io-error.ts";

/** What makes this host a member of a cluster; `host.json` in the overlay's directory, readable by root alone. */
const schema = v.object({
  v: v.literal(1),
  cluster: v.string(),
  /** Of the cluster that was joined. */
  uuid: v.string(),
  hostId: v.string(),
  /** Known to this host alone: tells its own session of before a restart from that of a machine with the same id. */
  nonce: v.string(),
  name: v.string(),
  engine: v.variant("kind", [
    v.object({ kind: v.literal("local") }),
    v.object({
      kind: v.literal("etcd"),
      endpoints: v.pipe(v.array(v.string()), v.minLength(1)),
      tls: v.optional(
        v.object({ ca: v.optional(v.string()), cert: v.optional(v.string()), key: v.optional(v.string()) }),
      ),
      user: v.optional(v.object({ name: v.string(), password: v.string() })),
    }),
    v.object({
      kind: v.literal("kubernetes"),
      server: v.string(),
      namespace: v.string(),
      tokenFile: v.optional(v.string()),
      caFile: v.optional(v.string()),
    }),
  ]),
  /** Which of the host's addresses the others reach it by: those of a device, or given ones. */
  underlay: v.union([
    v.object({ device: v.string() }),
    v.object({ v4: v.optional(v.string()), v6: v.optional(v.string()) }),
  ]),
});

export type HostSettings = v.InferOutput<typeof schema>;

export function overlayDirectory(stateDirectory: string): string {
  return join(stateDirectory, "overlay");
}

export function hostSettingsPath(directory: string): string {
  return join(directory, "host.json");
}

/** @returns undefined where the host is in no cluster @throws {IoError} also for a file that is not as it should be */
export function readHostSettings(directory: string): HostSettings | undefined {
  const path = hostSettingsPath(directory);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return undefined;
    throw new IoError("read", path, error);
  }
  try {
    return v.parse(schema, JSON.parse(text));
  } catch (error) {
    throw new IoError("read", path, error);
  }
}
