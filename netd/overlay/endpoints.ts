import type { Journal } from "#journal/journal.ts";
import type { Json } from "#journal/record.ts";
import { readBootId } from "#machine/boot-id.ts";
import { sha256Hex } from "#machine/sha256.ts";
import { parseCidr } from "#net/cidr.ts";
import { parseMac } from "#net/mac.ts";
import type { LocalEndpoint } from "#overlay/endpoint-keeper.ts";

/** Containers of this host in a network, by what the journal says was made for them. */
export function localEndpoints(journal: Journal, network: string): readonly LocalEndpoint[] {
  const bootId = readBootId();
  return journal.list(network).flatMap((record) => {
    if (record.phase !== "done" || record.bootId !== bootId) return [];
    const id = sha256Hex(`${record.key.containerId}\0${record.key.ifName}`).slice(0, 26);
    const { interfaces = [], ips = [] } = (record.result ?? {}) as Result;
    const mac = interfaces.find(({ sandbox }) => sandbox)?.mac;
    if (mac === undefined) return [];
    return [{ id, mac: parseMac(mac), ips: ips.map(({ address }) => parseCidr(address).address) }];
  });
}

/** What is looked at of a recorded CNI result of the newest version. */
interface Result {
  readonly interfaces?: readonly { readonly mac?: string; readonly sandbox?: string }[];
  readonly ips?: readonly { readonly address: string }[];
  readonly [key: string]: Json | undefined;
}
