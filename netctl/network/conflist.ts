import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import { formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import { networkId } from "#runtime/network-id.ts";
import type { Driver, NetworkDefinition } from "./definition.ts";
import { type AddressSpan, requestSpansOf, type SubnetDefinition, spansOf } from "./subnets.ts";
import { isWireDriver, renderWire } from "./wire.ts";

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
  readonly internal: boolean;
  /** What was asked of the subnets, where the conflist says it in other words. */
  readonly subnets: readonly SubnetNotes[];
}

export interface SubnetNotes {
  readonly subnet: string;
  readonly ipRange?: string;
  readonly auxAddresses: Readonly<Record<string, string>>;
}

/** Made when it is used first; its containers have no names for each other. */
const defaultNetwork = "bridge";

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
    internal: definition.internal,
    subnets: subnets.map(noteSubnet),
  };
  return {
    // Runtimes from before 1.1.0 read the first key alone, and refuse a version that they do not know.
    cniVersion: "1.0.0",
    cniVersions: ["1.0.0", "1.1.0"],
    name: definition.name,
    netctl: { ...notes, subnets: notes.subnets.map((each) => ({ ...each })) },
    plugins:
      definition.driver === "bridge"
        ? [
            renderBridge(definition, subnets, made.leases),
            ...renderDns(definition),
            ...renderPortmap(definition),
          ]
        : [renderOther(definition, subnets, made.leases), ...renderDns(definition)],
  };
}

function noteSubnet({ subnet, range, aux }: SubnetDefinition): SubnetNotes {
  const auxAddresses = Object.fromEntries(Object.entries(aux).map(([name, ip]) => [name, formatIp(ip)]));
  return {
    subnet: formatCidr(subnet),
    ...(range === undefined ? {} : { ipRange: formatCidr(range) }),
    auxAddresses,
  };
}

function renderOther(
  { driver, wire, internal, ipv4, ipv6 }: NetworkDefinition,
  subnets: readonly SubnetDefinition[],
  leases: string | undefined,
): JsonObject {
  if (!isWireDriver(driver) || wire === undefined) return { type: driver };
  return renderWire({ driver, wire, internal, ipv4, ipv6 }, subnets, {
    ranges: subnets.map(renderRanges),
    leases,
  });
}

function renderBridge(
  definition: NetworkDefinition,
  subnets: readonly SubnetDefinition[],
  leases: string | undefined,
): JsonObject {
  const { settings, internal } = definition;
  const { mtu, vlan, icc, gatewayMode = {}, snat, trustedInterfaces } = settings;
  const isReached = !internal && settings.noDefaultRoute !== true;
  return {
    type: "bridge",
    bridge: settings.bridgeName ?? defaultBridgeName(definition.name),
    isGateway: settings.inhibitGateway !== true,
    ipMasq: (settings.masquerade ?? true) && !internal,
    hairpinMode: true,
    ...(mtu === undefined ? {} : { mtu }),
    ...(vlan === undefined ? {} : { vlan }),
    networkIsolation: settings.networkIsolation ?? true,
    ...(internal ? { internal } : {}),
    ...(icc === undefined ? {} : { icc }),
    gatewayMode: {
      ...(definition.ipv4 ? { ipv4: gatewayMode.ipv4 ?? "nat" } : {}),
      ...(definition.ipv6 ? { ipv6: gatewayMode.ipv6 ?? "nat" } : {}),
    },
    ...(snat === undefined ? {} : { snat: { ...snat } }),
    ...(trustedInterfaces === undefined ? {} : { trustedInterfaces }),
    capabilities: { mac: true, ips: true },
    ipam: {
      type: "host-local",
      // Two runtimes with different ideas of the directory would give one address to two containers.
      ...(leases === undefined ? {} : { dataDir: leases }),
      // Each outer element gives a container one address.
      ranges: subnets.map(renderRanges),
      ...renderRequestRanges(subnets),
      routes: isReached ? subnets.map(renderDefaultRoute) : [],
    },
  };
}

/** Names for all networks but the default one, as Docker has it. */
function renderDns({ name, driver, internal, disableDns }: NetworkDefinition): readonly JsonObject[] {
  if (name === defaultNetwork || disableDns === true || driver === "host" || driver === "none") return [];
  return [{ type: "dns", ...(internal ? { internal } : {}), capabilities: { aliases: true, dns: true } }];
}

/** For networks from which ports can be published. */
function renderPortmap({ internal, settings: { hostBinding } }: NetworkDefinition): readonly JsonObject[] {
  if (internal) return [];
  return [
    {
      type: "portmap",
      ...(hostBinding === undefined ? {} : { hostBinding: { ...hostBinding } }),
      capabilities: { portMappings: true },
    },
  ];
}

/** host-local knows no exceptions: addresses that nobody gets are what several ranges leave out between them. */
function renderRanges(definition: SubnetDefinition): readonly JsonObject[] {
  const { range, aux } = definition;
  if (range === undefined && Object.keys(aux).length === 0) return [renderSubnet(definition)];
  return renderSpans(definition, spansOf(definition));
}

function renderSubnet({ subnet, gateway }: SubnetDefinition): JsonObject {
  return {
    subnet: formatCidr(subnet),
    ...(gateway === undefined ? {} : { gateway: formatIp(gateway) }),
  };
}

function renderSpans(definition: SubnetDefinition, spans: readonly AddressSpan[]): readonly JsonObject[] {
  return spans.map(({ first, last }) => ({
    ...renderSubnet(definition),
    rangeStart: formatIp(first),
    rangeEnd: formatIp(last),
  }));
}

/** As with Docker, an address outside of `--ip-range` can be asked for. */
function renderRequestRanges(subnets: readonly SubnetDefinition[]): JsonObject {
  const sets = subnets.map((definition) => renderSpans(definition, requestSpansOf(definition)));
  return sets.every((set) => set.length === 0) ? {} : { requestRanges: sets };
}

/** The key of an auxiliary address that is the containers' gateway instead of the bridge's, as Docker has it. */
const auxGateways = { 4: "DefaultGatewayIPv4", 6: "DefaultGatewayIPv6" } as const;

function renderDefaultRoute({ subnet, aux }: SubnetDefinition): JsonObject {
  const { family } = subnet.address;
  const gateway = aux[auxGateways[family]];
  return {
    dst: family === 4 ? "0.0.0.0/0" : "::/0",
    ...(gateway === undefined ? {} : { gw: formatIp(gateway) }),
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
    internal: notes["internal"] === true,
    subnets: Array.isArray(notes["subnets"]) ? notes["subnets"].flatMap(readSubnetNotes) : [],
  };
}

function readSubnetNotes(value: unknown): readonly SubnetNotes[] {
  if (!isJsonObject(value)) return [];
  const { subnet, ipRange, auxAddresses } = value;
  if (typeof subnet !== "string") return [];
  return [
    {
      subnet,
      ...(typeof ipRange === "string" ? { ipRange } : {}),
      auxAddresses: readStrings(auxAddresses),
    },
  ];
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

/** Several ranges of one subnet count as one, from the first to the last. */
export function readSubnets(plugins: readonly JsonObject[]): readonly ConfiguredSubnet[] {
  const merged = new Map<string, ConfiguredSubnet>();
  for (const found of readRanges(plugins)) {
    const earlier = merged.get(found.subnet);
    const end = found.rangeEnd === undefined ? {} : { rangeEnd: found.rangeEnd };
    merged.set(found.subnet, earlier === undefined ? found : { ...earlier, ...end });
  }
  return [...merged.values()];
}

/** Every range as it is written, in order. */
export function readRanges(plugins: readonly JsonObject[]): readonly ConfiguredSubnet[] {
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
