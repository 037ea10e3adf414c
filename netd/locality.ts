import { statSync } from "node:fs";
import { field, isJsonObject } from "#cni/json.ts";
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
export function hasPathsOfItsOwn({ environment, json }: Pick<Request, "environment" | "json">): boolean {
  const { CNI_NETNS: netns = "", CNI_PATH: path = "" } = environment;
  if (isOwn(netns) || path.split(":").some(isOwn)) return true;
  if (!isJsonObject(json)) return false;
  const chain = field(json, "plugins");
  return [json, ...(Array.isArray(chain) ? (chain as readonly unknown[]) : [])].some(namesOwnFile);
}

/** Paths that plugins of the suite take from their configuration. */
function namesOwnFile(config: unknown): boolean {
  if (!isJsonObject(config)) return false;
  const ipam = field(config, "ipam");
  if (isJsonObject(ipam) && (isOwn(field(ipam, "dataDir")) || isOwn(field(ipam, "resolvConf")))) return true;
  return isOwn(field(config, "dataDir"));
}

function isOwn(path: unknown): boolean {
  return typeof path === "string" && path !== "" && (!path.startsWith("/") || ownFile.test(path));
}
