import { statSync } from "node:fs";
import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import type { Locality, Request } from "./protocol.ts";

/** Where this process is. */
export function ownLocality(): Locality {
  const stat = (path: string) => statSync(path, { bigint: true });
  const root = stat("/");
  return {
    network: stat("/proc/self/ns/net").ino,
    mount: stat("/proc/self/ns/mnt").ino,
    rootInode: root.ino,
    rootDevice: Number(BigInt.asUintN(32, root.dev)),
  };
}

/** Files that mean another one in each process. */
const ownFile = /^\/+(proc\/+(self|thread-self)|dev\/+(fd|stdin|stdout|stderr))(\/|$)/;

/**
 * Whether a path in the request means something else to the caller than to any other process: one that starts from
 * its working directory, or leads through its own entry in /proc.
 */
export function hasPathsOfItsOwn({ environment, stdin }: Request): boolean {
  const { CNI_NETNS: netns = "", CNI_PATH: path = "" } = environment;
  return [netns, ...path.split(":"), ...configuredPaths(stdin)].some(
    (each) => each !== "" && (!each.startsWith("/") || ownFile.test(each)),
  );
}

/** Paths that plugins of the suite take from their configuration. */
function configuredPaths(stdin: string): readonly string[] {
  // Parsing a configuration takes longer than all else here; nearly none of them names a file.
  if (!/"(dataDir|resolvConf)"/i.test(stdin)) return [];
  let config: unknown;
  try {
    config = JSON.parse(stdin);
  } catch {
    return [];
  }
  if (!isJsonObject(config)) return [];
  const ipam = field(config, "ipam");
  const ofIpam = isJsonObject(ipam) ? textsOf(ipam, ["dataDir", "resolvConf"]) : [];
  return [...ofIpam, ...textsOf(config, ["dataDir"])];
}

function textsOf(object: JsonObject, keys: readonly string[]): readonly string[] {
  return keys.map((key) => field(object, key)).filter((value) => typeof value === "string");
}
