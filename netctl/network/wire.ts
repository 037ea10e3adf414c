import type { JsonObject } from "#cni/json.ts";
import type { Link } from "#kernel/link.ts";
import { ifNameProblem } from "#net/ifname.ts";
import { formatIp } from "#net/ip.ts";
import { Failure, UsageFailure } from "#netctl/failure.ts";
import { readHostLink } from "#netctl/host-networks.ts";
import type { World } from "#netctl/world.ts";
import type { SubnetDefinition } from "./subnets.ts";

/** Drivers whose containers are on the wire of a link of the host. */
export const wireDrivers = ["macvlan", "ipvlan"] as const;
export type WireDriver = (typeof wireDrivers)[number];

export function isWireDriver(driver: string): driver is WireDriver {
  return wireDrivers.some((known) => known === driver);
}

const modes = {
  macvlan: ["bridge", "private", "vepa", "passthru"],
  ipvlan: ["l2", "l3", "l3s"],
} as const;

const flags = ["bridge", "private", "vepa"] as const;

/** Who gives addresses on the wire: netctl, the DHCP server there, or nobody. */
export const wireIpamDrivers = ["host-local", "dhcp", "none"] as const;

/** What the options of such a network say; what none of them said is left out. */
export interface WireSettings {
  /** `eth0`, or `eth0.10` for a VLAN on it. Absent: the network has no way out. */
  readonly parent?: string;
  readonly mode?: string;
  /** Of ipvlan. */
  readonly flag?: string;
  readonly mtu?: number;
  /** Of macvlan: the host and its containers reach each other. */
  readonly hostAccess?: boolean;
  readonly ipam: (typeof wireIpamDrivers)[number];
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
}

type Settings = { -readonly [Key in keyof WireSettings]: WireSettings[Key] };
type Reader = (value: string, key: string, into: Settings, driver: WireDriver) => void;

const readMode: Reader = (value, key, into, driver) => {
  into.mode = readWord(value, key, modes[driver]);
};

const readMtu: Reader = (value, key, into) => {
  const mtu = /^\d{1,5}$/.test(value) ? Number(value) : Number.NaN;
  if (!(mtu >= 68 && mtu <= 65535)) throw refuse(key, value, "expected a number from 68 to 65535");
  into.mtu = mtu;
};

const readFamily =
  (name: "ipv4" | "ipv6"): Reader =>
  (value, key, into) => {
    into[name] = readBoolean(value, key);
  };

const common: Readonly<Record<string, Reader>> = {
  parent: (value, key, into) => {
    const problem = ifNameProblem(value);
    if (problem) throw refuse(key, value, problem.message);
    into.parent = value;
  },
  mode: readMode,
  mtu: readMtu,
  "com.docker.network.driver.mtu": readMtu,
  "com.docker.network.enable_ipv4": readFamily("ipv4"),
  "com.docker.network.enable_ipv6": readFamily("ipv6"),
};

/** Docker's names, and the short ones of Podman. */
const readers: Readonly<Record<WireDriver, Readonly<Record<string, Reader>>>> = {
  macvlan: {
    ...common,
    macvlan_mode: readMode,
    host_access: (value, key, into) => {
      into.hostAccess = readBoolean(value, key);
    },
  },
  ipvlan: {
    ...common,
    ipvlan_mode: readMode,
    ipvlan_flag: (value, key, into) => {
      into.flag = readWord(value, key, flags);
    },
  },
};

/**
 * Reads the options of a macvlan or ipvlan network.
 * @param ipam --ipam-driver; "default" is host-local
 * @throws {UsageFailure} with the option and its value
 */
export function readWireOptions(
  driver: WireDriver,
  options: Readonly<Record<string, string>>,
  ipam: string,
): WireSettings {
  const known = wireIpamDrivers.find((each) => each === (ipam === "default" ? "host-local" : ipam));
  if (known === undefined) {
    throw new UsageFailure(
      `Cannot use --ipam-driver ${ipam}: expected default, ${wireIpamDrivers.join(", ")}`,
    );
  }
  const settings: Settings = { ipam: known };
  for (const [key, value] of Object.entries(options)) {
    const read = Object.hasOwn(readers[driver], key) ? readers[driver][key] : undefined;
    if (read === undefined) {
      throw new UsageFailure(
        `Cannot use option "${key}" with driver ${driver}: known are ${Object.keys(readers[driver]).join(", ")}`,
      );
    }
    read(value, key, settings, driver);
  }
  if (settings.hostAccess === true && (settings.mode ?? "bridge") !== "bridge") {
    throw new UsageFailure(
      `Cannot use option host_access=true with mode ${settings.mode}: it needs mode bridge`,
    );
  }
  return settings;
}

/**
 * Looks whether the network's parent is there, or the link of which it is a VLAN, and takes packets of its MTU.
 * @throws {Failure}
 */
export function requireParent({ parent, mtu = 0 }: WireSettings, world: World): void {
  if (parent === undefined) return;
  if (parent === "lo") throw new Failure("Cannot use parent lo: it is the loopback interface");
  const link = readHostLink(world.kernel.namespace, parent) ?? linkUnder(parent, world);
  if (!link) throw new Failure(`Cannot use parent ${parent}: the host has no such link`);
  if (mtu > link.mtu)
    throw new Failure(
      `Cannot use option mtu=${mtu}: packets of parent ${parent} have ${link.mtu} bytes at most`,
    );
}

/** Of `eth0.10`: eth0. */
function linkUnder(parent: string, world: World): Link | undefined {
  const [, under, digits = ""] = /^([^.]+)\.([1-9][0-9]{0,3})$/.exec(parent) ?? [];
  if (under === undefined || Number(digits) > 4094) return undefined;
  return readHostLink(world.kernel.namespace, under);
}

/** The plugin of such a network. Pure. */
export function renderWire(
  network: {
    readonly driver: WireDriver;
    readonly wire: WireSettings;
    readonly internal: boolean;
    readonly ipv4: boolean;
    readonly ipv6: boolean;
  },
  subnets: readonly SubnetDefinition[],
  ipam: { readonly ranges: readonly (readonly JsonObject[])[]; readonly leases?: string | undefined },
): JsonObject {
  const { driver, wire, internal } = network;
  const { parent, mode, flag, mtu, hostAccess } = wire;
  return {
    type: driver,
    ...(parent === undefined ? { internal: true } : { master: parent }),
    ...(mode === undefined ? {} : { mode }),
    ...(flag === undefined ? {} : { flag }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(hostAccess === true ? { hostAccess } : {}),
    capabilities: { ...(driver === "macvlan" ? { mac: true } : {}), ips: true },
    ...renderIpam(network, ipam, internal || parent === undefined ? [] : defaultRoutes(wire, subnets)),
  };
}

function renderIpam(
  { wire, ipv4, ipv6 }: Pick<Parameters<typeof renderWire>[0], "wire" | "ipv4" | "ipv6">,
  ipam: { readonly ranges: readonly (readonly JsonObject[])[]; readonly leases?: string | undefined },
  routes: readonly JsonObject[],
): JsonObject {
  if (wire.ipam === "none") return {};
  if (wire.ipam === "dhcp") {
    const families = [...(ipv4 ? ["ipv4"] : []), ...(ipv6 ? ["ipv6"] : [])];
    return { ipam: { type: "dhcp", ...(ipv6 ? { families } : {}) } };
  }
  return {
    ipam: {
      type: "host-local",
      ...(ipam.leases === undefined ? {} : { dataDir: ipam.leases }),
      ranges: ipam.ranges,
      routes,
    },
  };
}

/** RT_SCOPE_LINK (include/uapi/linux/rtnetlink.h): through the device, without a gateway. */
const linkScope = 253;

/** The host is nobody's gateway here: there is one if it was named. Behind l3 the host itself routes. */
function defaultRoutes({ mode }: WireSettings, subnets: readonly SubnetDefinition[]): readonly JsonObject[] {
  return subnets.flatMap(({ subnet, gateway }): JsonObject[] => {
    const dst = subnet.address.family === 4 ? "0.0.0.0/0" : "::/0";
    if (mode === "l3" || mode === "l3s") return [{ dst, scope: linkScope }];
    return gateway === undefined ? [] : [{ dst, gw: formatIp(gateway) }];
  });
}

function refuse(key: string, value: string, expected: string): UsageFailure {
  return new UsageFailure(`Cannot use option ${key}=${value}: ${expected}`);
}

function readWord(value: string, key: string, words: readonly string[]): string {
  if (words.includes(value)) return value;
  throw refuse(key, value, `expected one of ${words.join(", ")}`);
}

/** As Docker reads them: strconv.ParseBool of Go. */
function readBoolean(text: string, key: string): boolean {
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  if (/^(0|f|F|FALSE|false|False)$/.test(text)) return false;
  throw refuse(key, text, "expected true or false");
}
