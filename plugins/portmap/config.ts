import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, int, ip, textList } from "#cni/schema-values.ts";
import { formatIp, type IpAddress, isLinkLocal, isLoopback, isMulticast, isUnspecified } from "#net/ip.ts";
import { type Port, parsePort } from "#net/port.ts";
import { type Protocol, protocols } from "#nftables/field.ts";

/** One entry of `portMappings`. */
export interface PortMapping {
  readonly hostPort: Port;
  readonly containerPort: Port;
  readonly protocol: Protocol;
  /** Undefined: every address of the host, of both families. */
  readonly hostIp: IpAddress | undefined;
}

/** How connections get their own source. The names are iptables'; nftables needs no mark. */
export interface SetMark {
  readonly markMasqBit: number;
  readonly externalSetMarkChain?: string;
}

/** The network configuration with every default filled in and every contradiction refused. */
export interface PortmapConfig {
  /** The suite serves both names by nftables, unless `insistOnBackend` is set or only iptables can serve it. */
  readonly backend: "nftables" | "iptables";
  /** The container itself, its neighbours and 127.0.0.1 of the host can use the ports as well. */
  readonly snat: boolean;
  /** Everybody who uses the ports comes from an address of the host. */
  readonly masqueradeAll: boolean;
  readonly setMark: SetMark;
  /** Further matches, in the backend's language. */
  readonly conditions: { readonly 4: readonly string[]; readonly 6: readonly string[] };
  readonly mappings: readonly PortMapping[];
}

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  backend: v.optional(v.string()),
  insistOnBackend: v.optional(v.boolean(), false),
  snat: v.optional(v.boolean(), true),
  masqAll: v.optional(v.boolean(), false),
  markMasqBit: v.optional(int()),
  externalSetMarkChain: v.optional(v.string()),
  conditionsV4: v.optional(textList, []),
  conditionsV6: v.optional(textList, []),
  hostBinding: v.optional(goObject({ ipv4: emptyAsAbsent(ip), ipv6: emptyAsAbsent(ip) })),
});

const mappingsSchema = goObject({
  portMappings: v.optional(
    v.array(
      goObject({
        hostPort: v.optional(int(), 0),
        containerPort: v.optional(int(), 0),
        protocol: v.optional(v.string(), ""),
        hostIP: emptyAsAbsent(ip),
      }),
    ),
    [],
  ),
});

const defaultMarkBit = 13;

/** @throws {CniError} 7 with the field and its value */
export function parsePortmapConfig(network: NetworkConfig): PortmapConfig {
  const raw = parseConfig(schema, network.json, { what: "portmap configuration" });
  if (raw.markMasqBit !== undefined && raw.externalSetMarkChain !== undefined) {
    throw invalid("Cannot specify externalSetMarkChain and markMasqBit");
  }
  const markMasqBit = raw.markMasqBit ?? defaultMarkBit;
  if (markMasqBit < 0 || markMasqBit > 31) {
    throw invalid(`"markMasqBit" ${markMasqBit}: MasqMarkBit must be between 0 and 31`);
  }
  return {
    backend: parseBackend(raw),
    snat: raw.snat,
    masqueradeAll: raw.masqAll,
    setMark: {
      markMasqBit,
      ...(raw.externalSetMarkChain === undefined ? {} : { externalSetMarkChain: raw.externalSetMarkChain }),
    },
    conditions: { 4: raw.conditionsV4, 6: raw.conditionsV6 },
    mappings: bind(parsePortMappings(network), parseBinding(raw.hostBinding)),
  };
}

function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use portmap configuration: ${problem}`);
}

interface RawBackend {
  readonly backend?: string | undefined;
  readonly insistOnBackend: boolean;
  readonly externalSetMarkChain?: string | undefined;
  readonly conditionsV4: readonly string[];
  readonly conditionsV6: readonly string[];
}

function parseBackend(raw: RawBackend): PortmapConfig["backend"] {
  const { backend, insistOnBackend } = raw;
  if (backend !== undefined && backend !== "nftables" && backend !== "iptables") {
    throw invalid(`unrecognized backend ${JSON.stringify(backend)}: must be "nftables" or "iptables"`);
  }
  if (insistOnBackend && backend === undefined) {
    throw invalid('"insistOnBackend" true: needs "backend" to say which one');
  }
  const languages = {
    conditionsV4: languageOf(raw.conditionsV4),
    conditionsV6: languageOf(raw.conditionsV6),
  };
  const specific = {
    iptables: [
      ...(raw.externalSetMarkChain === undefined ? [] : ["externalSetMarkChain"]),
      ...fieldsIn(languages, "iptables"),
    ],
    nftables: fieldsIn(languages, "nftables"),
  };
  const needsIptables = fieldsIn(languages, "iptables").length > 0;
  const asked = backend ?? (needsIptables ? "iptables" : "nftables");
  const other = asked === "nftables" ? "iptables" : "nftables";
  if (specific[other].length > 0 && (backend !== undefined || specific[asked].length > 0)) {
    throw invalid(
      `${asked} backend was requested but configuration contains ${other}-specific options [${specific[other].join(" ")}]`,
    );
  }
  const broken = [...raw.conditionsV4, ...raw.conditionsV6].find((word) => /[;\n\r]/.test(word));
  if (broken !== undefined) throw invalid(`condition ${JSON.stringify(broken)}: must not end the rule`);
  return asked === "iptables" && (insistOnBackend || needsIptables) ? "iptables" : "nftables";
}

function fieldsIn(
  languages: Readonly<Record<string, string | undefined>>,
  wanted: string,
): readonly string[] {
  return Object.keys(languages).filter((field) => languages[field] === wanted);
}

/** An option of iptables begins with a hyphen or an exclamation mark; a match of nft never does. */
function languageOf([first = ""]: readonly string[]): "nftables" | "iptables" | undefined {
  if (first === "") return undefined;
  return /^[-!]/.test(first) ? "iptables" : "nftables";
}

function parsePortMappings(network: NetworkConfig): readonly PortMapping[] {
  const { portMappings } = parseConfig(mappingsSchema, network.runtimeConfig, { what: "runtimeConfig" });
  return portMappings.map((raw, index) => {
    const fail = (field: string, problem: string) => invalid(`"portMappings[${index}].${field}": ${problem}`);
    const port = (field: "hostPort" | "containerPort", what: string) => {
      try {
        return parsePort(raw[field]);
      } catch {
        throw fail(field, `Invalid ${what} port number: ${raw[field]}`);
      }
    };
    const containerPort = port("containerPort", "container");
    const hostPort = port("hostPort", "host");
    const name = raw.protocol.toLowerCase() || "tcp";
    const protocol = protocols.find((each) => each === name);
    if (!protocol) {
      throw fail("protocol", `${JSON.stringify(raw.protocol)} must be one of ${protocols.join(", ")}`);
    }
    const problem = raw.hostIP && problemOf(raw.hostIP);
    if (raw.hostIP && problem) throw fail("hostIP", `${formatIp(raw.hostIP)} ${problem}`);
    return { hostPort, containerPort, protocol, hostIp: raw.hostIP };
  });
}

interface RawBinding {
  readonly ipv4?: IpAddress | undefined;
  readonly ipv6?: IpAddress | undefined;
}

/** Where mappings without `hostIP` are published; undefined for every address of both families. */
function parseBinding(raw: RawBinding | undefined): readonly IpAddress[] | undefined {
  if (raw === undefined) return undefined;
  for (const [field, family] of [
    ["ipv4", 4],
    ["ipv6", 6],
  ] as const) {
    const address = raw[field];
    if (address === undefined) continue;
    const problem = address.family === family ? problemOf(address) : `must be an IPv${family} address`;
    if (problem) throw invalid(`"hostBinding.${field}" ${formatIp(address)}: ${problem}`);
  }
  const given = [raw.ipv4, raw.ipv6].filter((address) => address !== undefined);
  return given.every(isUnspecified) && given.length < 2 ? undefined : given;
}

/** Who binds one family to an address does not mean the other one to be open to everybody: it is not published then. */
function bind(
  mappings: readonly PortMapping[],
  binding: readonly IpAddress[] | undefined,
): readonly PortMapping[] {
  if (binding === undefined) return mappings;
  return mappings.flatMap((mapping) =>
    mapping.hostIp ? [mapping] : binding.map((hostIp) => ({ ...mapping, hostIp })),
  );
}

/** What no translation of addresses can serve: better refused than published in vain. */
function problemOf(address: IpAddress): string | undefined {
  if (isMulticast(address)) return "is no address of a host, but of a group";
  if (address.family === 4) return undefined;
  if (isLoopback(address))
    return "can't be published on: no answer from outside is taken for it; use 127.0.0.1";
  if (isLinkLocal(address)) return "can't be published on: packets to and from it are not forwarded";
  return undefined;
}
