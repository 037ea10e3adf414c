import { ifNameProblem } from "#net/ifname.ts";
import { formatIp, isLoopback, isMulticast, isUnspecified, parseIp } from "#net/ip.ts";
import { UsageFailure } from "#netctl/failure.ts";

export const gatewayModes = ["nat", "nat-unprotected", "routed", "isolated"] as const;
export type GatewayMode = (typeof gatewayModes)[number];

/** One value for each family; a family that is left out has the default. */
export interface PerFamily<Value> {
  readonly ipv4?: Value;
  readonly ipv6?: Value;
}

/** What the options of a bridge network say; what none of them said is left out. */
export interface NetworkSettings {
  readonly bridgeName?: string;
  readonly mtu?: number;
  readonly vlan?: number;
  readonly masquerade?: boolean;
  readonly icc?: boolean;
  readonly gatewayMode?: PerFamily<GatewayMode>;
  /** The host's addresses that containers leave under. */
  readonly snat?: PerFamily<string>;
  /** Interfaces of the host whose neighbours may reach containers by their own addresses. */
  readonly trustedInterfaces?: readonly string[];
  /** Where ports are published that name no address of the host. */
  readonly hostBinding?: PerFamily<string>;
  /** False: other networks of this host may reach the containers. */
  readonly networkIsolation?: boolean;
  /** The bridge gets no address: somebody else on it is the gateway. */
  readonly inhibitGateway?: boolean;
  readonly noDefaultRoute?: boolean;
  /** Of the interfaces' names inside: `eth` by default. */
  readonly interfacePrefix?: string;
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
}

type Settings = { -readonly [Key in keyof NetworkSettings]: NetworkSettings[Key] };
type Reader = (value: string, key: string, into: Settings) => void;

const flag =
  (
    name: "masquerade" | "icc" | "networkIsolation" | "inhibitGateway" | "noDefaultRoute" | "ipv4" | "ipv6",
  ): Reader =>
  (value, key, into) => {
    into[name] = readBoolean(value, key);
  };

const perFamily =
  <Name extends "gatewayMode" | "snat" | "hostBinding">(
    name: Name,
    family: "ipv4" | "ipv6",
    read: (
      value: string,
      key: string,
      family: "ipv4" | "ipv6",
    ) => NonNullable<NonNullable<Settings[Name]>[typeof family]>,
  ): Reader =>
  (value, key, into) => {
    into[name] = { ...into[name], [family]: read(value, key, family) } as Settings[Name];
  };

const readMtu: Reader = (value, key, into) => {
  into.mtu = readInteger(value, key, 68, 65535);
};

const readTrusted: Reader = (value, key, into) => {
  into.trustedInterfaces = value
    .split(/[:,]/)
    .filter((name) => name !== "")
    .map((name) => readIfName(name, key, value));
};

const readIsolate: Reader = (value, key, into) => {
  into.networkIsolation = value === "strict" || readBoolean(value, key);
};

/** Docker's names, and behind them the short ones, which are Podman's where Podman has one. */
const readers: Readonly<Record<string, Reader>> = {
  "com.docker.network.bridge.name": (value, key, into) => {
    into.bridgeName = readIfName(value, key, value);
  },
  "com.docker.network.bridge.enable_icc": flag("icc"),
  "com.docker.network.bridge.enable_ip_masquerade": flag("masquerade"),
  "com.docker.network.bridge.gateway_mode_ipv4": perFamily("gatewayMode", "ipv4", readGatewayMode),
  "com.docker.network.bridge.gateway_mode_ipv6": perFamily("gatewayMode", "ipv6", readGatewayMode),
  "com.docker.network.bridge.host_binding_ipv4": perFamily("hostBinding", "ipv4", readBinding),
  "com.docker.network.bridge.host_binding_ipv6": perFamily("hostBinding", "ipv6", readBinding),
  "com.docker.network.bridge.inhibit_ipv4": flag("inhibitGateway"),
  "com.docker.network.bridge.trusted_host_interfaces": readTrusted,
  "com.docker.network.container_iface_prefix": (value, key, into) => {
    into.interfacePrefix = readIfName(value, key, value);
  },
  "com.docker.network.driver.mtu": readMtu,
  "com.docker.network.enable_ipv4": flag("ipv4"),
  "com.docker.network.enable_ipv6": flag("ipv6"),
  "com.docker.network.host_ipv4": perFamily("snat", "ipv4", readHostAddress),
  "com.docker.network.host_ipv6": perFamily("snat", "ipv6", readHostAddress),
  icc: flag("icc"),
  masquerade: flag("masquerade"),
  gateway_mode_ipv4: perFamily("gatewayMode", "ipv4", readGatewayMode),
  gateway_mode_ipv6: perFamily("gatewayMode", "ipv6", readGatewayMode),
  host_binding_ipv4: perFamily("hostBinding", "ipv4", readBinding),
  host_binding_ipv6: perFamily("hostBinding", "ipv6", readBinding),
  trusted_host_interfaces: readTrusted,
  host_ipv4: perFamily("snat", "ipv4", readHostAddress),
  host_ipv6: perFamily("snat", "ipv6", readHostAddress),
  outbound_addr4: perFamily("snat", "ipv4", readHostAddress),
  outbound_addr6: perFamily("snat", "ipv6", readHostAddress),
  isolate: readIsolate,
  no_default_route: flag("noDefaultRoute"),
  mtu: readMtu,
  vlan: (value, key, into) => {
    into.vlan = readInteger(value, key, 1, 4094);
  },
};

/**
 * Reads the options of a bridge network.
 * @throws {UsageFailure} with the option and its value
 */
export function readNetworkOptions(options: Readonly<Record<string, string>>): NetworkSettings {
  const settings: Settings = {};
  for (const [key, value] of Object.entries(options)) {
    const read = Object.hasOwn(readers, key) ? readers[key] : undefined;
    if (read === undefined) {
      throw new UsageFailure(`Cannot use option "${key}": known are ${Object.keys(readers).join(", ")}`);
    }
    read(value, key, settings);
  }
  return settings;
}

function refuse(key: string, value: string, expected: string): UsageFailure {
  return new UsageFailure(`Cannot use option ${key}=${value}: ${expected}`);
}

function readGatewayMode(value: string, key: string): GatewayMode {
  const mode = gatewayModes.find((known) => known === value);
  if (mode === undefined) throw refuse(key, value, `expected one of ${gatewayModes.join(", ")}`);
  return mode;
}

function readAddress(value: string, key: string, family: "ipv4" | "ipv6") {
  try {
    const ip = parseIp(value);
    if (ip.family === (family === "ipv4" ? 4 : 6)) return ip;
  } catch {
    // Said below.
  }
  throw refuse(key, value, `expected an ${family === "ipv4" ? "IPv4" : "IPv6"} address`);
}

function readHostAddress(value: string, key: string, family: "ipv4" | "ipv6"): string {
  const ip = readAddress(value, key, family);
  if (isUnspecified(ip) || isLoopback(ip) || isMulticast(ip)) {
    throw refuse(key, value, "expected an address that others can answer to");
  }
  return formatIp(ip);
}

function readBinding(value: string, key: string, family: "ipv4" | "ipv6"): string {
  const ip = readAddress(value, key, family);
  if (isMulticast(ip)) throw refuse(key, value, "expected an address of one host");
  return formatIp(ip);
}

function readIfName(name: string, key: string, value: string): string {
  const problem = ifNameProblem(name);
  if (problem !== undefined) throw refuse(key, value, problem.message);
  return name;
}

function readInteger(text: string, key: string, minimum: number, maximum: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= minimum && value <= maximum) return value;
  throw refuse(key, text, `expected a number from ${minimum} to ${maximum}`);
}

/** As Docker reads them: strconv.ParseBool of Go. */
function readBoolean(text: string, key: string): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) return false;
  throw refuse(key, text, "expected true or false");
}
