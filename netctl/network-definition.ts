import {
  type Cidr,
  containsIp,
  firstIp,
  formatCidr,
  hasHostBits,
  lastIp,
  networkOf,
  parseCidr,
} from "#net/cidr.ts";
import { ifNameProblem } from "#net/ifname.ts";
import { addToIp, compareIp, equalIp, formatIp, type IpAddress, parseIp } from "#net/ip.ts";
import { UsageFailure } from "./failure.ts";

export const drivers = ["bridge", "host", "none"] as const;
export type Driver = (typeof drivers)[number];

/** The words of `network create`, as they were typed. */
export interface NetworkWords {
  readonly name: string;
  readonly driver: string;
  readonly subnets: readonly string[];
  readonly gateways: readonly string[];
  readonly ipRanges: readonly string[];
  readonly options: readonly string[];
  readonly labels: readonly string[];
  readonly ipv6: boolean;
  readonly internal: boolean;
}

export interface SubnetDefinition {
  readonly subnet: Cidr;
  readonly gateway?: IpAddress;
  /** First and last address that containers get; absent means the whole subnet. */
  readonly range?: { readonly first: IpAddress; readonly last: IpAddress };
}

export interface NetworkDefinition {
  readonly name: string;
  readonly driver: Driver;
  /** At most one per family; empty if none was given. */
  readonly subnets: readonly SubnetDefinition[];
  readonly ipv6: boolean;
  readonly bridgeName?: string;
  readonly mtu?: number;
  readonly vlan?: number;
  readonly masquerade: boolean;
  readonly options: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
}

/** Names with a meaning of their own in Docker's and Podman's commands; they can't be given to a network. */
export const predefinedNames: readonly string[] = ["bridge", "host", "none", "default", "container", "pod"];

/** As the CNI specification has it (SPEC.md, "Section 1"), and short enough for the result cache's file names. */
const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;

interface OptionSettings {
  bridgeName?: string;
  mtu?: number;
  vlan?: number;
  masquerade?: boolean;
}

type OptionReader = (value: string, key: string, into: OptionSettings) => void;

const readMtu: OptionReader = (value, key, into) => {
  into.mtu = readInteger(value, key, 68, 65535);
};

/** What `-o` takes: Docker's names, and Podman's short ones. */
const optionReaders: Readonly<Record<string, OptionReader>> = {
  "com.docker.network.bridge.name": (value, key, into) => {
    const problem = ifNameProblem(value);
    if (problem !== undefined)
      throw new UsageFailure(`Cannot use option ${key}=${value}: ${problem.message}`);
    into.bridgeName = value;
  },
  "com.docker.network.driver.mtu": readMtu,
  mtu: readMtu,
  vlan: (value, key, into) => {
    into.vlan = readInteger(value, key, 1, 4094);
  },
  "com.docker.network.bridge.enable_ip_masquerade": (value, key, into) => {
    into.masquerade = readBoolean(value, key);
  },
};

/**
 * Understands the words of `network create`, with no look at the host.
 * @throws {UsageFailure} with the flag and its value
 */
export function parseNetworkDefinition(words: NetworkWords): NetworkDefinition {
  const driver = drivers.find((known) => known === words.driver);
  if (driver === undefined) {
    throw new UsageFailure(`Cannot use driver "${words.driver}": expected one of ${drivers.join(", ")}`);
  }
  if (!namePattern.test(words.name)) {
    throw new UsageFailure(
      `Cannot name a network "${words.name}": a name starts with a letter or digit, continues with those and _ . -, and has at most 128 characters`,
    );
  }
  if (words.internal) {
    throw new UsageFailure(`Cannot use --internal: this version has no isolation between networks yet`);
  }
  const settings: OptionSettings = {};
  const options = readPairs(words.options, "option");
  for (const [key, value] of Object.entries(options)) {
    const read = Object.hasOwn(optionReaders, key) ? optionReaders[key] : undefined;
    if (read === undefined) {
      throw new UsageFailure(
        `Cannot use option "${key}": known are ${Object.keys(optionReaders).join(", ")}`,
      );
    }
    read(value, key, settings);
  }
  if (driver !== "bridge") {
    const given = [
      ...words.subnets.map((text) => `--subnet ${text}`),
      ...words.gateways.map((text) => `--gateway ${text}`),
      ...words.ipRanges.map((text) => `--ip-range ${text}`),
      ...words.options.map((text) => `--opt ${text}`),
      ...(words.ipv6 ? ["--ipv6"] : []),
    ];
    if (given[0] !== undefined)
      throw new UsageFailure(
        `Cannot use ${given[0]} with driver ${driver}: it has no addresses or options of its own`,
      );
  }
  const subnets = parseSubnets(words);
  return {
    name: words.name,
    driver,
    subnets,
    ipv6: words.ipv6 || subnets.some(({ subnet }) => subnet.address.family === 6),
    masquerade: settings.masquerade ?? true,
    ...(settings.bridgeName === undefined ? {} : { bridgeName: settings.bridgeName }),
    ...(settings.mtu === undefined ? {} : { mtu: settings.mtu }),
    ...(settings.vlan === undefined ? {} : { vlan: settings.vlan }),
    options,
    labels: readPairs(words.labels, "label"),
  };
}

function parseSubnets(words: NetworkWords): readonly SubnetDefinition[] {
  const subnets = words.subnets.map((text) => parsePrefix(text, "--subnet"));
  const ranges = words.ipRanges.map((text) => parsePrefix(text, "--ip-range"));
  const gateways = words.gateways.map((text) => usage(`Cannot use --gateway ${text}`, () => parseIp(text)));
  for (const [index, subnet] of subnets.entries()) {
    const family = subnet.address.family;
    if (subnets.slice(0, index).some((other) => other.address.family === family)) {
      throw new UsageFailure(
        `Cannot use --subnet ${formatCidr(subnet)}: a bridge network has one IPv${family} subnet`,
      );
    }
    const longest = family === 4 ? 30 : 126;
    if (subnet.prefixLength > longest) {
      throw new UsageFailure(
        `Cannot use --subnet ${formatCidr(subnet)}: too small, a prefix length of at most ${longest} is needed`,
      );
    }
  }
  for (const gateway of gateways) {
    if (!subnets.some((subnet) => isHostOf(subnet, gateway))) {
      throw new UsageFailure(
        `Cannot use --gateway ${formatIp(gateway)}: no matching subnet for it${remedy(subnets)}`,
      );
    }
  }
  for (const range of ranges) {
    if (!subnets.some((subnet) => containsIp(subnet, firstIp(range)) && containsIp(subnet, lastIp(range)))) {
      throw new UsageFailure(
        `Cannot use --ip-range ${formatCidr(range)}: no matching subnet for it${remedy(subnets)}`,
      );
    }
  }
  return subnets.map((subnet) => {
    const gateway = only(
      gateways.filter((ip) => containsIp(subnet, ip)),
      subnet,
      "--gateway",
    );
    const range = only(
      ranges.filter((cidr) => containsIp(subnet, firstIp(cidr))),
      subnet,
      "--ip-range",
    );
    return {
      subnet,
      ...(gateway === undefined ? {} : { gateway }),
      ...(range === undefined ? {} : { range: usableRange(subnet, range) }),
    };
  });
}

function parsePrefix(text: string, flag: string): Cidr {
  const cidr = usage(`Cannot use ${flag} ${text}`, () => parseCidr(text));
  if (hasHostBits(cidr)) {
    throw new UsageFailure(`Cannot use ${flag} ${text}: it should be ${formatCidr(networkOf(cidr))}`);
  }
  return cidr;
}

/** The first and last address of a range that a container can have: not the subnet's own, nor its broadcast address. */
function usableRange(subnet: Cidr, range: Cidr): { readonly first: IpAddress; readonly last: IpAddress } {
  const first = firstIp(range);
  const last = lastIp(range);
  return {
    first: equalIp(first, firstIp(subnet)) && compareIp(first, last) < 0 ? addToIp(first, 1) : first,
    last:
      subnet.address.family === 4 && equalIp(last, lastIp(subnet)) && compareIp(first, last) < 0
        ? addToIp(last, -1)
        : last,
  };
}

function isHostOf(subnet: Cidr, ip: IpAddress): boolean {
  const broadcast = subnet.address.family === 4 && equalIp(ip, lastIp(subnet));
  return containsIp(subnet, ip) && !equalIp(ip, firstIp(subnet)) && !broadcast;
}

const remedy = (subnets: readonly Cidr[]) =>
  subnets.length === 0 ? "; give --subnet too" : `; the subnets are ${subnets.map(formatCidr).join(", ")}`;

function only<T>(found: readonly T[], subnet: Cidr, flag: string): T | undefined {
  if (found.length > 1) throw new UsageFailure(`Cannot use ${flag} twice for subnet ${formatCidr(subnet)}`);
  return found[0];
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

function readInteger(text: string, key: string, minimum: number, maximum: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= minimum && value <= maximum) return value;
  throw new UsageFailure(`Cannot use option ${key}=${text}: expected a number from ${minimum} to ${maximum}`);
}

/** As Docker reads them: strconv.ParseBool of Go. */
function readBoolean(text: string, key: string): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) return false;
  throw new UsageFailure(`Cannot use option ${key}=${text}: expected true or false`);
}

function usage<T>(action: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new UsageFailure(`${action}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
