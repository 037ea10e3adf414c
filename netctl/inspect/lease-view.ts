import { join } from "node:path";
import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import { LeaseDirectory } from "#ipam/lease-directory.ts";
import { Trash } from "#machine/trash.ts";
import { formatIp } from "#net/ip.ts";

export interface LeaseView {
  readonly ip: string;
  readonly containerId: string;
  /** Empty in a lease of a plugin that did not record it. */
  readonly ifName: string;
}

/** Addresses that host-local has given out for a network; undefined if no plugin of the chain uses it. */
export function readLeases(
  network: string,
  plugins: readonly JsonObject[],
  defaultDirectory: string,
): readonly LeaseView[] | undefined {
  const ipams = plugins.map((plugin) => field(plugin, "ipam")).filter(isJsonObject);
  const ipam = ipams.find((candidate) => field(candidate, "type") === "host-local");
  if (ipam === undefined) return undefined;
  const dataDir = field(ipam, "dataDir");
  const path = join(typeof dataDir === "string" && dataDir !== "" ? dataDir : defaultDirectory, network);
  // Nothing is removed here, so nothing goes into the trash.
  const leases = new LeaseDirectory(path, new Trash(join(path, ".trash")));
  return leases.addresses().map((ip) => {
    const owner = leases.ownerOf(ip);
    return { ip: formatIp(ip), containerId: owner?.containerId ?? "", ifName: owner?.ifName ?? "" };
  });
}
