import { type Dirent, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { isIP } from "node:net";
import type { JsonValue } from "#cni/json.ts";
import { runTool } from "#conformance/command.ts";
import type { Namespace } from "#conformance/namespace.ts";
import { list, object, text } from "#conformance/witness.ts";
import { isDevice } from "./traces.ts";

/**
 * What one network has left on its host, each as sorted texts that name the attachment, so that two can be compared.
 * Read with `ip`, `nft` and from the files, not by the suite's own code.
 */
export interface HostState {
  /** "ID IFNAME PLUGIN done"; "intent" or "leaving" where ADD or DEL has not ended */
  readonly records: readonly string[];
  /** "ADDRESS ID IFNAME": host-local's files */
  readonly leases: readonly string[];
  /** The same, by the index of owners */
  readonly owners: readonly string[];
  /** "ID IFNAME": what the resolver answers by */
  readonly names: readonly string[];
  /** "veth1234abcd" */
  readonly links: readonly string[];
  /** "masquerade4 10.1.0.2", "mac_allowed veth1234abcd 02:…" */
  readonly elements: readonly string[];
  /** "masquerade4 ID": each element by the comment that says whose it is, in whichever set */
  readonly owned: readonly string[];
  /** Subnets within which nothing is masqueraded: shared, so they may outlive an attachment until the next GC. */
  readonly subnets: readonly string[];
}

export interface StatePlace {
  readonly host: Namespace;
  readonly stateDirectory: string;
  readonly runDirectory: string;
  readonly network: string;
}

const marker = "@@faults@@";
/** Those whose keys are compared as well. */
const comparedSets = new Set(["masquerade4", "masquerade6", "mac_checked", "mac_allowed"]);

export async function readHostState({
  host,
  stateDirectory,
  runDirectory,
  network,
}: StatePlace): Promise<HostState> {
  const links = ["veth", "ifb"].map((kind) => `ip -d -j link show type ${kind}; echo`);
  const script = [...links, "nft -j list ruleset"].join(`; echo '${marker}'; `);
  const output = await runTool("/usr/bin/nsenter", [`--net=${host.path}`, "sh", "-c", script]);
  const [veths = "", ifbs = "", ruleset = ""] = output.split(`${marker}\n`);
  const sets = ruleset.trim() === "" ? [] : list(object(JSON.parse(ruleset) as JsonValue)["nftables"]);
  const elements: string[] = [];
  const owned: string[] = [];
  const subnets: string[] = [];
  for (const entry of sets.map(object)) {
    const set = object(entry["set"] ?? entry["map"]);
    const name = text(set["name"]);
    for (const element of list(set["elem"])) {
      const line = `${name} ${elementText(element)}`;
      if (name.startsWith("same_subnet")) subnets.push(line);
      else if (comparedSets.has(name)) elements.push(line);
      const owner = ownerOf(element);
      if (owner !== undefined) owned.push(`${name} ${owner}`);
    }
  }
  return {
    records: readRecords(`${stateDirectory}/journal/${network}`),
    leases: readLeases(`${stateDirectory}/networks/${network}`),
    owners: readOwners(`${stateDirectory}/networks/.netctl/${network}`),
    names: readNames(runDirectory, network),
    links: [...parseNames(veths), ...parseNames(ifbs)].sort(),
    elements: elements.sort(),
    owned: owned.sort(),
    subnets: subnets.sort(),
  };
}

function parseNames(output: string): readonly string[] {
  if (output.trim() === "") return [];
  return (
    list(JSON.parse(output) as JsonValue)
      .map((link) => text(object(link)["ifname"]))
      // What the world itself has made.
      .filter((name) => name !== "uplink0" && !isDevice(name))
      .sort()
  );
}

/** Comments are `HASH NETWORK IFNAME ID`. Of a map, the element is a pair of key and value. */
function ownerOf(element: JsonValue): string | undefined {
  const key = Array.isArray(element) ? (list(element)[0] ?? null) : element;
  const [, id] = /^[0-9a-f]{16} \S+ \S+ (\S+)$/.exec(text(object(object(key)["elem"])["comment"])) ?? [];
  return id;
}

/** A value, a concatenation or a prefix, with or without comment. */
function elementText(element: JsonValue): string {
  const inner = object(element)["elem"];
  const value = inner === undefined ? element : (object(inner)["val"] ?? null);
  const parts = object(value)["concat"];
  return (parts === undefined ? [value] : list(parts))
    .map((part) => {
      const { addr, len } = object(object(part)["prefix"]);
      return addr === undefined ? text(part) : `${text(addr)}/${JSON.stringify(len)}`;
    })
    .join(" ");
}

function readRecords(directory: string): readonly string[] {
  return entries(directory)
    .map(({ name }) => {
      const [containerId = "", ifName = "", plugin = ""] = name.split(":");
      // A record is lines of a checksum and JSON: of ADD's end, and of DEL's beginning.
      const lines = readQuietly(`${directory}/${name}`).split("\n");
      const has = (word: string) => lines.some((line) => line.slice(9).startsWith(`{"${word}":`));
      const phase = has("leaving") ? "leaving" : has("result") ? "done" : "intent";
      return `${containerId} ${ifName} ${plugin} ${phase}`;
    })
    .sort();
}

function readLeases(directory: string): readonly string[] {
  return entries(directory)
    .filter(({ name }) => isIP(name) !== 0)
    .map(({ name }) => `${name} ${readQuietly(`${directory}/${name}`).replace("\r\n", " ")}`)
    .sort();
}

function readNames(runDirectory: string, network: string): readonly string[] {
  return entries(runDirectory)
    .filter(({ name }) => name.startsWith("names-"))
    .flatMap(({ name: folder }) =>
      entries(`${runDirectory}/${folder}`).map(({ name }) => `${folder}/${name}`),
    )
    .flatMap((file) => {
      const content = readQuietly(`${runDirectory}/${file}`);
      if (content === "") return [];
      const entry = object(JSON.parse(content) as JsonValue);
      return text(entry["network"]) === network
        ? [`${text(entry["containerId"])} ${text(entry["ifName"])}`]
        : [];
    })
    .sort();
}

function readOwners(directory: string): readonly string[] {
  return entries(directory)
    .filter((entry) => entry.isDirectory() && entry.name !== "trash")
    .flatMap(({ name: folder }) =>
      entries(`${directory}/${folder}`).flatMap(({ name }) => {
        const [addresses = ""] = readlinkSync(`${directory}/${folder}/${name}`).split(" ");
        return addresses.split(",").map((address) => `${address} ${name.replace(":", " ")}`);
      }),
    )
    .sort();
}

function entries(directory: string): readonly Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true }).filter(({ name }) => !name.startsWith("."));
  } catch {
    return [];
  }
}

function readQuietly(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    // It has gone since the directory was listed.
    return "";
  }
}
