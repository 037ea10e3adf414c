import { readdir, readFile } from "node:fs/promises";
import { isIP } from "node:net";
import type { JsonObject, JsonValue } from "#cni/json.ts";
import type { Namespace } from "./namespace.ts";
import {
  type Address,
  type Link,
  list,
  object,
  parseAddresses,
  parseLinks,
  parseRoutes,
  type Route,
  text,
} from "./witness.ts";

/** Everything of one host that a plugin may change, at one moment. */
export interface Footprint {
  readonly links: readonly Link[];
  readonly addresses: readonly Address[];
  readonly routes: readonly Route[];
  /** `ip rule`, as JSON text. */
  readonly rules: readonly string[];
  /** Objects of nft: "rule ip nat POSTROUTING {…}", "element inet t s …", "chain …", without handles and counters. */
  readonly nft: readonly string[];
  /** Path below the lab's directory, to content. */
  readonly files: ReadonlyMap<string, string>;
  readonly sysctls: string;
  readonly mounts: readonly string[];
}

const marker = "@@conformance@@";

const script = [
  "ip -d -j link show",
  "ip -j address show",
  "ip -j -4 route show table all",
  "ip -j -6 route show table all",
  "ip -j -4 rule show; ip -j -6 rule show",
  "nft -j list ruleset",
  "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding",
].join(`; echo; echo ${marker}; `);

/** Takes the footprint of `namespace`, of the files in `directories` and of the mounts below them. */
export async function takeFootprint(
  namespace: Namespace,
  directories: readonly string[],
): Promise<Footprint> {
  const output = await namespace.shell(script);
  const [links = "", addresses = "", routes4 = "", routes6 = "", rules = "", nft = "", sysctls = ""] =
    output.split(`${marker}\n`);
  const files = new Map<string, string>();
  for (const directory of directories) await readTree(directory, files);
  const mountinfo = await readFile("/proc/self/mountinfo", "utf8");
  const present = parseAddresses(addresses);
  // The route by which the host knows an address of its own comes with the address, or once the link has a carrier.
  const own = new Set(present.map((address) => address.cidr.split("/")[0]));
  return {
    links: parseLinks(links),
    // The kernel makes link-local addresses and anycast and multicast routes by itself, and in its own time.
    addresses: present.filter((address) => !address.cidr.startsWith("fe80:")),
    routes: [...parseRoutes(routes4), ...parseRoutes(routes6)].filter((route) => {
      const type = text(route.json["type"]);
      const isOwn = type === "local" && own.has(route.dst);
      return !isOwn && !/^(anycast|multicast)$/.test(type) && !/^(fe80|ff00):/.test(route.dst);
    }),
    rules: rules.split("\n").filter((line) => line.trim() !== ""),
    nft: nftObjects(nft),
    files,
    sysctls: sysctls.trim().split("\n").join(" "),
    mounts: mountinfo
      .split("\n")
      .map((line) => line.split(" ")[4] ?? "")
      .filter((mountPoint) => directories.some((directory) => mountPoint.startsWith(`${directory}/`))),
  };
}

/** Whose traces to look for. */
export interface Identity {
  readonly containerIds: readonly string[];
  /** Addresses without prefix, names of host links, MAC addresses. */
  readonly marks: readonly string[];
}

/**
 * What an attachment left on the host after its DEL. Shared things may stay: bridges with their addresses and
 * routes, sysctls, tables with base chains, and rules and elements that name no attachment.
 */
export function leaks(before: Footprint, after: Footprint, identity: Identity): readonly string[] {
  const found: string[] = [];
  const bridges = new Set(after.links.filter((link) => link.kind === "bridge").map((link) => link.name));
  const oldLinks = new Map(before.links.map((link) => [link.index, link]));
  for (const link of after.links) {
    const old = oldLinks.get(link.index);
    if (old === undefined) {
      if (link.kind !== "bridge") found.push(`link ${link.name}`);
    } else if (link.kind !== "bridge" && describeLink(old) !== describeLink(link)) {
      found.push(`link ${link.name} changed from ${describeLink(old)} to ${describeLink(link)}`);
    }
  }
  for (const link of before.links) {
    if (!after.links.some((now) => now.index === link.index)) found.push(`link ${link.name} is gone`);
  }
  const shared = (dev: string | undefined): boolean => dev !== undefined && bridges.has(dev);
  const newLinkNames = new Set(
    after.links.filter((link) => !oldLinks.has(link.index)).map((link) => link.name),
  );
  found.push(
    ...added(before.addresses, after.addresses, (address) => `${address.cidr} dev ${address.dev}`)
      .filter((address) => !shared(address.dev) && !newLinkNames.has(address.dev))
      .map((address) => `address ${address.cidr} on ${address.dev}`),
    ...added(after.addresses, before.addresses, (address) => `${address.cidr} dev ${address.dev}`)
      .filter((address) => !shared(address.dev))
      .map((address) => `address ${address.cidr} of ${address.dev} is gone`),
    ...added(before.routes, after.routes, describeRoute)
      .filter((route) => !shared(route.dev) && !newLinkNames.has(route.dev ?? ""))
      .map((route) => `route ${describeRoute(route)}`),
    ...added(before.rules, after.rules, String).map((rule) => `ip rule ${rule}`),
    ...nftLeaks(before.nft, after.nft, identity),
    ...fileLeaks(before.files, after.files, identity),
    ...added(before.mounts, after.mounts, String).map((mount) => `mount ${mount}`),
  );
  return found;
}

/** Every difference at all: for input that must be refused before anything is touched. */
export function changes(before: Footprint, after: Footprint): readonly string[] {
  const differences = <T>(kind: string, old: readonly T[], now: readonly T[], name: (item: T) => string) => [
    ...added(old, now, name).map((item) => `new ${kind} ${name(item)}`),
    ...added(now, old, name).map((item) => `${kind} ${name(item)} is gone`),
  ];
  const found = [
    ...differences("link", before.links, after.links, (link) => `${link.name} (${describeLink(link)})`),
    ...differences(
      "address",
      before.addresses,
      after.addresses,
      (address) => `${address.cidr} on ${address.dev}`,
    ),
    ...differences("route", before.routes, after.routes, describeRoute),
    ...differences("ip rule", before.rules, after.rules, String),
    ...differences("nft", before.nft, after.nft, String),
    ...differences("mount", before.mounts, after.mounts, String),
  ];
  if (before.sysctls !== after.sysctls)
    found.push(`forwarding changed from ${before.sysctls} to ${after.sysctls}`);
  return found;
}

/** State that does not come and go by itself: carrier and operational state do. */
function describeLink(link: Link): string {
  const flags = link.flags.filter((flag) => flag === "UP" || flag === "PROMISC");
  return `${link.mac} mtu ${link.mtu} master ${link.master ?? "none"} ${flags.join(" ")}`.trim();
}

function describeRoute(route: Route): string {
  const words = [
    route.dst,
    route.gateway === undefined ? "" : `via ${route.gateway}`,
    `dev ${route.dev ?? "?"}`,
  ];
  if (route.table !== undefined) words.push(`table ${route.table}`);
  return words.filter((word) => word !== "").join(" ");
}

function added<T>(before: readonly T[], after: readonly T[], key: (item: T) => string): T[] {
  const known = new Set(before.map(key));
  return after.filter((item) => !known.has(key(item)));
}

function nftObjects(output: string): readonly string[] {
  if (output.trim() === "") return [];
  const entries = list(object(JSON.parse(output) as JsonValue)["nftables"]).map(object);
  return entries.flatMap((entry) => {
    const [[kind, value] = ["", null]] = Object.entries(entry);
    if (kind === "metainfo") return [];
    const body = object(value);
    const place = [body["family"], body["table"], body["chain"], body["name"]].map((part) => text(part));
    const elements = list(body["elem"]).map(
      (element) => `element of ${place.filter(Boolean).join(" ")}: ${JSON.stringify(stripped(element))}`,
    );
    const { elem: _elements, ...rest } = body;
    return [`${kind} ${JSON.stringify(stripped(rest))}`, ...elements];
  });
}

/** Without what differs between two equal objects: handles and counters. */
function stripped(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(stripped);
  if (typeof value !== "object" || value === null) return value;
  const kept: Record<string, JsonValue> = {};
  for (const [key, inner] of Object.entries(value as JsonObject)) {
    if (key === "handle") continue;
    kept[key] = key === "counter" ? null : stripped(inner);
  }
  return kept;
}

/** Of the reference's portmap: only its rules for containers lead there. */
const sharedChains = /^CNI-HOSTPORT-/;

function nftLeaks(
  before: readonly string[],
  after: readonly string[],
  identity: Identity,
): readonly string[] {
  const fresh = added(before, after, String);
  const jumps = after.filter((entry) => entry.startsWith("rule ")).join("\n");
  return fresh.filter((entry) => {
    // An element with a comment has an owner; one without may be shared, as long as it names no attachment.
    if (entry.startsWith("element ") && entry.includes('"comment"')) return true;
    if ([...identity.containerIds, ...identity.marks].some((mark) => mentions(entry, mark))) return true;
    // A chain that hooks nowhere and that nothing jumps to has lost its owner.
    if (!entry.startsWith("chain ") || entry.includes('"hook"')) return false;
    const name = text(object(JSON.parse(entry.slice("chain ".length)) as JsonValue)["name"]);
    return !sharedChains.test(name) && !jumps.includes(`"target":"${name}"`);
  });
}

function mentions(entry: string, mark: string): boolean {
  if (mark === "") return false;
  const at = entry.indexOf(mark);
  return at >= 0 && !/[0-9a-f.:]/i.test(entry[at + mark.length] ?? "");
}

function fileLeaks(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
  identity: Identity,
): readonly string[] {
  const found: string[] = [];
  for (const [path, content] of after) {
    if (before.get(path) === content || path.endsWith(".log")) continue;
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (!before.has(path) && isIP(name) !== 0) found.push(`lease ${name}`);
    else if (identity.containerIds.some((id) => names(path, id) || names(content, id)))
      found.push(`file ${path} names the container`);
  }
  return found;
}

/** True if the id stands in the text as a word of its own. */
function names(text: string, id: string): boolean {
  for (let at = text.indexOf(id); at >= 0; at = text.indexOf(id, at + 1)) {
    const around = `${text[at - 1] ?? " "}${text[at + id.length] ?? " "}`;
    if (!/[\w.-]/.test(around)) return true;
  }
  return false;
}

async function readTree(directory: string, into: Map<string, string>): Promise<void> {
  const entries = await readdir(directory, { withFileTypes: true, recursive: true }).catch(() => []);
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = `${entry.parentPath}/${entry.name}`;
    into.set(path, await readFile(path, "utf8").catch(() => ""));
  }
}
