import type { NetworkList } from "#cni/conflist.ts";
import { isJsonObject, type JsonObject } from "#cni/json.ts";
import type { CniResult } from "#cni/result.ts";
import { decodeResult } from "#cni/result-versions.ts";
import { isCniVersion } from "#cni/version.ts";
import type { JournalRecord } from "#journal/record.ts";
import { formatCidr } from "#net/cidr.ts";
import type { CachedAttachment } from "#runtime/cache.ts";

/** What the result of an attachment's ADD says is there. */
export interface Expectation {
  readonly addresses: readonly string[];
  /** False where the network makes no interface of the attachment's name: drivers `none` and `host`. */
  readonly hasInterface: boolean;
  /** MAC of the container's interface; empty if the result has none. */
  readonly mac: string;
  /** Links in the host: bridge, the veth's other end. */
  readonly hostLinks: readonly { readonly name: string; readonly mac: string }[];
}

/**
 * By the result that the runtime cached, which is that of the whole chain; else by the one in the journal that has
 * an interface. Undefined where neither is usable.
 */
export function readExpectation(
  list: NetworkList,
  ifName: string,
  cached: CachedAttachment | undefined,
  records: readonly JournalRecord[],
): Expectation | undefined {
  const recorded = records.flatMap((record) =>
    record.phase === "done" && isJsonObject(record.result) ? [record.result] : [],
  );
  const candidates = [cached?.result, ...recorded].filter((json) => json !== undefined);
  const results = candidates.flatMap((json) => decode(json, list) ?? []);
  const result = results.find(({ interfaces }) => interfaces.length > 0) ?? results[0];
  if (result === undefined) return undefined;
  const { interfaces, ips } = result;
  const own = interfaces.findIndex(({ name, sandbox }) => sandbox !== undefined && name === ifName);
  // Results below 0.3.0 have no interfaces.
  const hasInterface = own >= 0 || interfaces.length === 0;
  return {
    addresses: ips
      .filter((ip) => ip.interface === undefined || interfaces.length === 0 || ip.interface === own)
      .map(({ address }) => formatCidr(address)),
    hasInterface,
    mac: interfaces[own]?.mac ?? "",
    hostLinks: interfaces
      .filter(({ sandbox }) => sandbox === undefined)
      .map(({ name, mac }) => ({ name, mac: mac ?? "" })),
  };
}

function decode(json: JsonObject, list: NetworkList): CniResult | undefined {
  const version = json["cniVersion"];
  try {
    return decodeResult(
      json,
      typeof version === "string" && isCniVersion(version) ? version : list.cniVersion,
    );
  } catch {
    return undefined;
  }
}

/** What the bridge plugin of this suite says in its record; of no other plugin is anything assumed. */
export function masqueradedAddresses(records: readonly JournalRecord[]): readonly string[] {
  return records.flatMap((record) => {
    if (record.phase === "torn" || !isJsonObject(record.made)) return [];
    const { masquerade, masqueradeBackend } = record.made;
    if (masqueradeBackend !== "nftables" || !Array.isArray(masquerade)) return [];
    return (masquerade as readonly unknown[]).filter((address) => typeof address === "string");
  });
}
