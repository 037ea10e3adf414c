import { UsageFailure } from "#netctl/failure.ts";
import { didYouMean } from "#runtime/nearest-word.ts";
import { type NetworkSettings, readNetworkOptions } from "./options.ts";
import { chooseFamilies, parseSubnets, type SubnetRequest } from "./subnets.ts";
import { isWireDriver, readWireOptions, type WireSettings, wireDrivers } from "./wire.ts";

export const drivers = ["bridge", ...wireDrivers, "host", "none"] as const;
export type Driver = (typeof drivers)[number];

/** The words of `network create`, as they were typed. */
export interface NetworkWords {
  readonly name: string;
  readonly driver: string;
  readonly subnets: readonly string[];
  readonly gateways: readonly string[];
  readonly ipRanges: readonly string[];
  readonly auxAddresses: readonly string[];
  readonly options: readonly string[];
  /** Options that are set for the driver on this host; those above win. */
  readonly defaultOptions: Readonly<Record<string, string>>;
  readonly labels: readonly string[];
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly internal: boolean;
  readonly disableDns?: boolean;
  /** "default" if absent. */
  readonly ipamDriver?: string;
}

/** A bridge network about which nothing else is said. */
export const plainNetwork = {
  driver: "bridge",
  subnets: [],
  gateways: [],
  ipRanges: [],
  auxAddresses: [],
  options: [],
  defaultOptions: {},
  labels: [],
  ipv4: true,
  ipv6: false,
  internal: false,
} as const satisfies Omit<NetworkWords, "name">;

export interface NetworkDefinition {
  readonly name: string;
  readonly driver: Driver;
  /** At most one per family; empty if none was given. */
  readonly subnets: readonly SubnetRequest[];
  /** Which families the network has. */
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly internal: boolean;
  /** Its containers don't find each other by name. */
  readonly disableDns?: boolean;
  readonly settings: NetworkSettings;
  /** Of macvlan and ipvlan, whose `settings` are empty. */
  readonly wire?: WireSettings;
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
}

/** Networks that are there without being created. */
export const builtinNames: readonly string[] = ["bridge", "host", "none"];

/** Names with a meaning of their own in Docker's and Podman's commands; they can't be given to a network. */
export const predefinedNames: readonly string[] = [...builtinNames, "default", "container", "pod"];

/** As the CNI specification has it (SPEC.md, "Section 1"), and short enough for the result cache's file names. */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;

/** @throws {UsageFailure} */
export function requireNetworkName(name: string): void {
  if (!namePattern.test(name))
    throw new UsageFailure(
      `Cannot name a network "${name}": a name starts with a letter or digit, continues with those and _ . -, and has at most 128 characters`,
    );
}

/**
 * Understands the words of `network create`, with no look at the host.
 * @throws {UsageFailure} with the flag and its value
 */
export function parseNetworkDefinition(words: NetworkWords): NetworkDefinition {
  const driver = drivers.find((known) => known === words.driver);
  if (driver === undefined) {
    throw new UsageFailure(
      `Cannot use driver "${words.driver}": expected one of ${[...drivers, "overlay-vxlan"].join(", ")}${didYouMean(words.driver, drivers)}`,
    );
  }
  requireNetworkName(words.name);
  const labels = readPairs(words.labels, "label");
  const given = readPairs(words.options, "option");
  if (driver !== "bridge" && !isWireDriver(driver)) {
    refuseForDriver(words, driver);
    return {
      name: words.name,
      driver,
      subnets: [],
      ipv4: false,
      ipv6: false,
      internal: false,
      settings: {},
      options: given,
      labels,
    };
  }
  const options = { ...words.defaultOptions, ...given };
  const wire = isWireDriver(driver)
    ? readWireOptions(driver, options, words.ipamDriver ?? "default")
    : undefined;
  const settings = wire === undefined ? readNetworkOptions(options) : {};
  const { ipv4: ipv4Option, ipv6: ipv6Option } = wire ?? settings;
  const subnets = parseSubnets(words);
  const { ipv4, ipv6 } = chooseFamilies(subnets, {
    ipv4: words.ipv4 && ipv4Option !== false,
    ipv6: words.ipv6 || ipv6Option === true,
  });
  const definition = { name: words.name, driver, subnets, ipv4, ipv6, internal: words.internal };
  if (wire !== undefined && wire.ipam !== "host-local" && subnets.length > 0) {
    throw new UsageFailure(`Cannot use --subnet with --ipam-driver ${wire.ipam}`);
  }
  refuseContradictions(definition, settings);
  const { disableDns } = words;
  return {
    ...definition,
    ...(disableDns === undefined ? {} : { disableDns }),
    settings,
    ...(wire === undefined ? {} : { wire }),
    options,
    labels,
  };
}

function refuseForDriver(words: NetworkWords, driver: Driver): void {
  const [first] = [
    ...words.subnets.map((text) => `--subnet ${text}`),
    ...words.gateways.map((text) => `--gateway ${text}`),
    ...words.ipRanges.map((text) => `--ip-range ${text}`),
    ...words.auxAddresses.map((text) => `--aux-address ${text}`),
    ...words.options.map((text) => `--opt ${text}`),
    ...(words.ipv6 ? ["--ipv6"] : []),
    ...(words.internal ? ["--internal"] : []),
  ];
  if (first === undefined) return;
  throw new UsageFailure(
    `Cannot use ${first} with driver ${driver}: it has no addresses or options of its own`,
  );
}

function refuseContradictions(
  { ipv4, ipv6, internal }: Pick<NetworkDefinition, "ipv4" | "ipv6" | "internal">,
  settings: NetworkSettings,
): void {
  const { gatewayMode = {}, hostBinding = {}, snat = {}, inhibitGateway } = settings;
  const isIsolated = Object.values(gatewayMode).includes("isolated");
  if (isIsolated && !internal) {
    throw new UsageFailure("Cannot use gateway mode isolated without --internal");
  }
  if (internal && Object.keys(hostBinding).length > 0) {
    throw new UsageFailure("Cannot use a host binding with --internal: nothing is published there");
  }
  if (Object.keys(snat).length > 0 && (internal || settings.masquerade === false)) {
    throw new UsageFailure(
      `Cannot use a fixed source address ${internal ? "with --internal" : "without masquerade"}: nothing leaves under it`,
    );
  }
  const without = { ipv4: !ipv4, ipv6: !ipv6 };
  for (const family of ["ipv4", "ipv6"] as const) {
    const named = [snat[family], hostBinding[family]].find((value) => value !== undefined);
    if (named !== undefined && without[family]) {
      const flag = family === "ipv4" ? "" : "; add --ipv6";
      throw new UsageFailure(
        `Cannot use ${named} in a network without ${family === "ipv4" ? "IPv4" : "IPv6"}${flag}`,
      );
    }
  }
  if (inhibitGateway === true && ipv6) {
    throw new UsageFailure(
      "Cannot use option com.docker.network.bridge.inhibit_ipv4=true with IPv6: the bridge is the gateway of both families, or of none",
    );
  }
}

function readPairs(texts: readonly string[], what: string): Readonly<Record<string, string>> {
  const pairs: Record<string, string> = {};
  for (const text of texts) {
    const [, key, value] = /^([^=]+)=?(.*)$/s.exec(text) ?? [];
    if (key === undefined) throw new UsageFailure(`Cannot use ${what} "${text}": expected KEY=VALUE`);
    Object.defineProperty(pairs, key, {
      value: value ?? "",
      enumerable: true,
      configurable: true,
      writable: true,
    });
  }
  return pairs;
}
