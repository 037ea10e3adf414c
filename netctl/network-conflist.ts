import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import { networkId } from "#runtime/network-id.ts";
import type { Driver, NetworkDefinition, SubnetDefinition } from "./network-definition.ts";

/**
 * What only netctl needs to know of a network, kept in its conflist under the key `netctl`; every runtime
 * ignores keys that it does not know.
 */
export interface NetworkNotes {
  readonly createdAt: string;
  readonly driver: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  /** The bridge was not there when the network was created: the first attachment makes it, `network rm` removes it. */
  readonly ownsBridge: boolean;
}

/** Name of a network's bridge where none is asked for: 15 bytes, the most that the kernel takes. */
export function defaultBridgeName(network: string): string {
  return `nc-${networkId(network).slice(0, 12)}`;
}

/** The conflist of a network: valid for every CNI runtime, with the notes of ours beside the plugins. Pure. */
export function renderConflist(
  definition: NetworkDefinition,
  subnets: readonly SubnetDefinition[],
  made: {
    readonly createdAt: string;
    readonly ownsBridge: boolean;
    /** Where host-local keeps leases; absent for its own default. */
    readonly leases?: string;
  },
): JsonObject {
  const notes: NetworkNotes = {
    createdAt: made.createdAt,
    driver: definition.driver,
    labels: definition.labels,
    options: definition.options,
    ownsBridge: made.ownsBridge,
  };
  return {
    // Runtimes from before 1.1.0 read the first key alone, and refuse a version that they do not know.
    cniVersion: "1.0.0",
    cniVersions: ["1.0.0", "1.1.0"],
    name: definition.name,
    netctl: { ...notes },
    plugins: [renderPlugin(definition, subnets, made.leases)],
  };
}

function renderPlugin(
  definition: NetworkDefinition,
  subnets: readonly SubnetDefinition[],
  leases: string | undefined,
): JsonObject {
  if (definition.driver !== "bridge") return { type: definition.driver };
  return {
    type: "bridge",
    bridge: definition.bridgeName ?? defaultBridgeName(definition.name),
    isGateway: true,
    ipMasq: definition.masquerade,
    hairpinMode: true,
    ...(definition.mtu === undefined ? {} : { mtu: definition.mtu }),
    ...(definition.vlan === undefined ? {} : { vlan: definition.vlan }),
    capabilities: { mac: true, ips: true },
    ipam: {
      type: "host-local",
      // Two runtimes with different ideas of the directory would give one address to two containers.
      ...(leases === undefined ? {} : { dataDir: leases }),
      // Each outer element gives a container one address.
      ranges: subnets.map((subnet) => [renderRange(subnet)]),
      routes: subnets.map(({ subnet }) => ({ dst: subnet.address.family === 4 ? "0.0.0.0/0" : "::/0" })),
    },
  };
}

function renderRange({ subnet, gateway, range }: SubnetDefinition): JsonObject {
  return {
    subnet: formatCidr(subnet),
    ...(gateway === undefined ? {} : { gateway: formatIp(gateway) }),
    ...(range === undefined ? {} : { rangeStart: formatIp(range.first), rangeEnd: formatIp(range.last) }),
  };
}

/** The notes in a conflist; undefined where netctl did not write it. Damaged fields are left at their zero values. */
export function readNotes(conflist: JsonObject): NetworkNotes | undefined {
  const notes = conflist["netctl"];
  if (!isJsonObject(notes)) return undefined;
  const text = (key: string) => (typeof notes[key] === "string" ? notes[key] : "");
  return {
    createdAt: text("createdAt"),
    driver: text("driver"),
    labels: readStrings(notes["labels"]),
    options: readStrings(notes["options"]),
    ownsBridge: notes["ownsBridge"] === true,
  };
}

function readStrings(value: unknown): Readonly<Record<string, string>> {
  if (!isJsonObject(value)) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** What the conflist says of the network's addresses, whoever wrote it: host-local's fields, old and new. */
export interface ConfiguredSubnet {
  readonly subnet: string;
  readonly gateway?: string;
  readonly rangeStart?: string;
  readonly rangeEnd?: string;
}

export function readSubnets(plugins: readonly JsonObject[]): readonly ConfiguredSubnet[] {
  return plugins.flatMap((plugin) => {
    const ipam = field(plugin, "ipam");
    if (!isJsonObject(ipam)) return [];
    const sets = field(ipam, "ranges");
    const ranges = Array.isArray(sets)
      ? sets.flatMap((set: unknown) => (Array.isArray(set) ? (set as unknown[]) : []))
      : [];
    return [ipam, ...ranges].filter(isJsonObject).flatMap((range) => {
      const subnet = field(range, "subnet");
      if (typeof subnet !== "string") return [];
      return [{ subnet, ...strings(range, ["gateway", "rangeStart", "rangeEnd"]) }];
    });
  });
}

function strings(object: JsonObject, keys: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(
    keys.flatMap((key) => {
      const value = field(object, key);
      return typeof value === "string" ? [[key, value] as const] : [];
    }),
  );
}

/** The driver as Docker would call it: the type of the chain's first plugin. */
export function driverOf(plugins: readonly JsonObject[]): Driver | (string & {}) {
  const type = plugins[0] === undefined ? undefined : field(plugins[0], "type");
  return typeof type === "string" ? type : "";
}

/** Names of the bridges that a chain uses; the bridge plugin's default is `cni0`. */
export function bridgesOf(plugins: readonly JsonObject[]): readonly string[] {
  return plugins.flatMap((plugin) => {
    if (field(plugin, "type") !== "bridge") return [];
    const name = field(plugin, "bridge");
    return [typeof name === "string" && name !== "" ? name : "cni0"];
  });
}
