import type { JsonObject, JsonValue } from "#cni/json.ts";
import type { Namespace } from "./namespace.ts";

/** A link as `ip -d -j link` shows it, as far as cases look at it. */
export interface Link {
  readonly name: string;
  readonly index: number;
  /** Index of the peer or lower device. */
  readonly peerIndex: number | undefined;
  readonly kind: string;
  readonly mac: string;
  readonly mtu: number;
  readonly master: string | undefined;
  readonly flags: readonly string[];
  readonly operState: string;
  /** Attributes of the kind ("vlan_filtering" of a bridge). */
  readonly data: JsonObject;
  /** Attributes as a port of its master ("hairpin" of a bridge port). */
  readonly port: JsonObject;
}

export interface Address {
  readonly dev: string;
  /** With prefix length: 10.0.0.2/24 */
  readonly cidr: string;
  readonly scope: string;
  readonly tentative: boolean;
}

export interface Route {
  readonly dst: string;
  readonly gateway: string | undefined;
  readonly dev: string | undefined;
  readonly metric: number | undefined;
  readonly scope: string | undefined;
  readonly table: string | undefined;
  readonly json: JsonObject;
}

export function object(value: JsonValue | undefined): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
}

export function list(value: JsonValue | undefined): readonly JsonValue[] {
  return Array.isArray(value) ? value : [];
}

export function text(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}

function parseList(output: string): readonly JsonObject[] {
  if (output.trim() === "") return [];
  return list(JSON.parse(output) as JsonValue).map(object);
}

export function parseLinks(output: string): readonly Link[] {
  return parseList(output).map((json) => {
    const info = object(json["linkinfo"]);
    return {
      name: text(json["ifname"]),
      index: Number(json["ifindex"]),
      peerIndex: typeof json["link_index"] === "number" ? json["link_index"] : undefined,
      kind: text(info["info_kind"]),
      mac: text(json["address"]),
      mtu: Number(json["mtu"]),
      master: typeof json["master"] === "string" ? json["master"] : undefined,
      flags: list(json["flags"]).map(text),
      operState: text(json["operstate"]),
      data: object(info["info_data"]),
      port: object(info["info_slave_data"]),
    };
  });
}

export function parseAddresses(output: string): readonly Address[] {
  return parseList(output).flatMap((json) =>
    list(json["addr_info"])
      .map(object)
      .filter((info) => info["local"] !== undefined)
      .map((info) => ({
        dev: text(json["ifname"]),
        cidr: `${text(info["local"])}/${Number(info["prefixlen"])}`,
        scope: text(info["scope"]),
        tentative: info["tentative"] === true,
      })),
  );
}

export function parseRoutes(output: string): readonly Route[] {
  return parseList(output).map((json) => ({
    dst: text(json["dst"]),
    gateway: typeof json["gateway"] === "string" ? json["gateway"] : undefined,
    dev: typeof json["dev"] === "string" ? json["dev"] : undefined,
    metric: typeof json["metric"] === "number" ? json["metric"] : undefined,
    scope: typeof json["scope"] === "string" ? json["scope"] : undefined,
    table: typeof json["table"] === "string" ? json["table"] : undefined,
    json,
  }));
}

/** All links, as `ip -d -j link show`. */
export async function readLinks(namespace: Namespace): Promise<readonly Link[]> {
  return parseLinks(await namespace.ip("-d -j link show"));
}

export async function readLink(namespace: Namespace, name: string): Promise<Link | undefined> {
  return (await readLinks(namespace)).find((link) => link.name === name);
}

/** Addresses with global scope (no link-local ones), of one link or of all. */
export async function readAddresses(namespace: Namespace, dev?: string): Promise<readonly Address[]> {
  const all = parseAddresses(await namespace.ip("-j address show"));
  return all.filter((address) => address.scope !== "link" && (dev === undefined || address.dev === dev));
}

/** Routes of the main table or of `table`, one family. */
export async function readRoutes(
  namespace: Namespace,
  family: 4 | 6 = 4,
  table = "main",
): Promise<readonly Route[]> {
  const completed = await namespace.enter("ip", [`-${family}`, "-j", "route", "show", "table", table]);
  // A table without routes does not exist: ip reports that as an error.
  return completed.exitCode === 0 ? parseRoutes(completed.stdout) : [];
}

/** VLAN ids of a bridge port, as `bridge -j vlan show`: id to flags. */
export async function readPortVlans(
  namespace: Namespace,
  port: string,
): Promise<ReadonlyMap<number, readonly string[]>> {
  const completed = await namespace.enter("bridge", ["-j", "vlan", "show", "dev", port]);
  const vlans = new Map<number, readonly string[]>();
  for (const entry of parseList(completed.stdout)) {
    for (const vlan of list(entry["vlans"]).map(object)) {
      const first = Number(vlan["vlan"]);
      const last = typeof vlan["vlanEnd"] === "number" ? vlan["vlanEnd"] : first;
      for (let id = first; id <= last; id += 1) vlans.set(id, list(vlan["flags"]).map(text));
    }
  }
  return vlans;
}

/** The whole ruleset as nft's own text, without counters and handles; of both nft and iptables-nft. */
export async function readRuleset(namespace: Namespace): Promise<string> {
  const completed = await namespace.enter("nft", ["-n", "list", "ruleset"]);
  return completed.stdout.replace(/counter packets \d+ bytes \d+/g, "counter");
}
