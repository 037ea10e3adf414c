import * as v from "valibot";
import { formatCidr } from "#net/cidr.ts";
import { formatIp, type IpAddress } from "#net/ip.ts";
import { CniError, ErrorCode } from "./error.ts";
import { field, type JsonObject } from "./json.ts";
import type { CniDns, CniInterface, CniIp, CniResult, CniRoute } from "./result.ts";
import { goObject, parseConfig } from "./schema.ts";
import { cidr, emptyAsAbsent, int, ip, textList } from "./schema-values.ts";
import { atLeast, type CniVersion, isCniVersion } from "./version.ts";

/**
 * The JSON of a result in each version of the specification. Three shapes: 0.1.0 and 0.2.0 (at most one IPv4 and
 * one IPv6), 0.3.0 to 0.4.0 (lists; each address says its family), 1.0.0 and newer. Where the specification is
 * silent these are the rules of the reference library (pkg/types/{020,040,100}), since results pass through it.
 */

const dnsSchema = goObject({
  nameservers: v.exactOptional(textList),
  domain: emptyAsAbsent(v.string()),
  search: v.exactOptional(textList),
  options: v.exactOptional(textList),
});

/** As wide as the kernel has them (include/uapi/linux/rtnetlink.h). */
const uint32 = v.optional(int({ min: 0, max: 0xffffffff }));

const routeSchema = goObject({
  dst: cidr,
  gw: emptyAsAbsent(ip),
  mtu: uint32,
  advmss: uint32,
  priority: uint32,
  table: uint32,
  scope: v.optional(int({ min: 0, max: 0xff })),
});

const oneFamilySchema = goObject({
  ip: cidr,
  gateway: emptyAsAbsent(ip),
  routes: v.optional(v.array(routeSchema), []),
});

const oldestShape = goObject({
  ip4: v.optional(oneFamilySchema),
  ip6: v.optional(oneFamilySchema),
  dns: v.optional(dnsSchema),
});

const listShape = goObject({
  interfaces: v.optional(
    v.array(
      goObject({
        name: v.optional(v.string(), ""),
        mac: emptyAsAbsent(v.string()),
        mtu: v.optional(int()),
        sandbox: emptyAsAbsent(v.string()),
        socketPath: emptyAsAbsent(v.string()),
        pciID: emptyAsAbsent(v.string()),
      }),
    ),
    [],
  ),
  ips: v.optional(
    v.array(goObject({ interface: v.optional(int()), address: cidr, gateway: emptyAsAbsent(ip) })),
    [],
  ),
  routes: v.optional(v.array(routeSchema), []),
  dns: v.optional(dnsSchema),
});

/**
 * Reads a result, or a `prevResult`.
 * @param version of the configuration; holds if the result has no `cniVersion` of its own
 * @param what for the message: "prevResult"
 * @throws {CniError} 7 for fields that are no result, 1 for a version that is not known
 */
export function decodeResult(json: JsonObject, version: CniVersion, what = "result"): CniResult {
  const own = field(json, "cniVersion") ?? "";
  if (own !== "" && (typeof own !== "string" || !isCniVersion(own))) {
    throw new CniError(
      ErrorCode.IncompatibleVersion,
      `Cannot read ${what} of CNI version ${JSON.stringify(own)}`,
    );
  }
  return atLeast(own || version, "0.3.0")
    ? decodeLists(json, atLeast(own || version, "1.0.0"), what)
    : decodeOldest(json, what);
}

function decodeOldest(json: JsonObject, what: string): CniResult {
  const { ip4, ip6, dns } = parseConfig(oldestShape, json, { what });
  const families = [ip4, ip6].filter((family) => family !== undefined);
  return {
    interfaces: [],
    ips: families.map((family) => withoutAbsent({ address: family.ip, gateway: family.gateway })),
    // 0.2.0 routes are dst and gw alone.
    routes: families.flatMap((family) => family.routes.map(({ dst, gw }) => withoutAbsent({ dst, gw }))),
    dns: decodeDns(dns),
  };
}

function decodeLists(json: JsonObject, hasNewInterfaceFields: boolean, what: string): CniResult {
  const parsed = parseConfig(listShape, json, { what });
  return {
    interfaces: parsed.interfaces.map(({ name, mac, mtu, sandbox, socketPath, pciID }) =>
      withoutAbsent({
        name,
        mac,
        sandbox,
        ...(hasNewInterfaceFields ? { mtu: mtu || undefined, socketPath, pciId: pciID } : {}),
      }),
    ),
    ips: parsed.ips.map((entry) =>
      withoutAbsent({
        // Some plugins write -1 for "none".
        interface: entry.interface !== undefined && entry.interface >= 0 ? entry.interface : undefined,
        address: entry.address,
        gateway: entry.gateway,
      }),
    ),
    routes: parsed.routes.map(({ dst, gw, mtu, advmss, priority, table, scope }) =>
      // Zero is the default of the first three, and a value for table and scope.
      withoutAbsent({
        dst,
        gw,
        mtu: mtu || undefined,
        advmss: advmss || undefined,
        priority: priority || undefined,
        table,
        scope,
      }),
    ),
    dns: decodeDns(parsed.dns),
  };
}

function decodeDns(dns: v.InferOutput<typeof dnsSchema> | undefined): CniDns {
  return withoutAbsent({ ...dns });
}

/**
 * Writes a result in the version that the configuration asked for. Empty fields are left out.
 * @throws {CniError} 7 where 0.1.0 or 0.2.0 is asked for and there is no address, which they cannot express
 */
export function encodeResult(result: CniResult, version: CniVersion): JsonObject {
  if (!atLeast(version, "0.3.0")) return encodeOldest(result, version);
  const isNewest = atLeast(version, "1.0.0");
  const dns = encodeDns(result.dns);
  return {
    cniVersion: version,
    ...listIfAny("interfaces", result.interfaces, (each) => encodeInterface(each, isNewest)),
    ...listIfAny("ips", result.ips, (each) => encodeIp(each, isNewest)),
    ...listIfAny("routes", result.routes, encodeRoute),
    // The reference prints an empty object up to 0.4.0 and nothing from 1.0.0 on.
    ...(isNewest && Object.keys(dns).length === 0 ? {} : { dns }),
  };
}

/** Only the first address of each family survives, with the routes of that family; interfaces do not. */
function encodeOldest(result: CniResult, version: CniVersion): JsonObject {
  const json: Record<string, JsonObject | string> = { cniVersion: version };
  for (const family of [4, 6] as const) {
    const first = result.ips.find(({ address }) => address.address.family === family);
    if (!first) continue;
    const routes = result.routes.filter(({ dst }) => dst.address.family === family);
    json[`ip${family}`] = {
      ip: formatCidr(first.address),
      ...textIfAny("gateway", first.gateway),
      ...listIfAny("routes", routes, ({ dst, gw }) => ({ dst: formatCidr(dst), ...textIfAny("gw", gw) })),
    };
  }
  if (!json["ip4"] && !json["ip6"]) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot convert result to CNI version ${version}: no valid IP addresses`,
    );
  }
  return { ...json, dns: encodeDns(result.dns) };
}

function encodeInterface(each: CniInterface, isNewest: boolean): JsonObject {
  return {
    name: each.name,
    ...(each.mac ? { mac: each.mac } : {}),
    ...(isNewest && each.mtu ? { mtu: each.mtu } : {}),
    ...(each.sandbox ? { sandbox: each.sandbox } : {}),
    ...(isNewest && each.socketPath ? { socketPath: each.socketPath } : {}),
    ...(isNewest && each.pciId ? { pciID: each.pciId } : {}),
  };
}

function encodeIp(each: CniIp, isNewest: boolean): JsonObject {
  return {
    ...(isNewest ? {} : { version: String(each.address.address.family) }),
    ...(each.interface === undefined ? {} : { interface: each.interface }),
    address: formatCidr(each.address),
    ...textIfAny("gateway", each.gateway),
  };
}

/**
 * The fields of 1.1.0 go out in every version from 0.3.0 on: a delegate's route with a table or a priority has
 * to reach the plugin that makes it, and readers ignore what they do not know.
 */
function encodeRoute(route: CniRoute): JsonObject {
  return {
    dst: formatCidr(route.dst),
    ...textIfAny("gw", route.gw),
    ...(route.mtu ? { mtu: route.mtu } : {}),
    ...(route.advmss ? { advmss: route.advmss } : {}),
    ...(route.priority ? { priority: route.priority } : {}),
    ...(route.table === undefined ? {} : { table: route.table }),
    ...(route.scope === undefined ? {} : { scope: route.scope }),
  };
}

function encodeDns(dns: CniDns): JsonObject {
  return {
    ...listIfAny("nameservers", dns.nameservers ?? [], (each) => each),
    ...(dns.domain ? { domain: dns.domain } : {}),
    ...listIfAny("search", dns.search ?? [], (each) => each),
    ...listIfAny("options", dns.options ?? [], (each) => each),
  };
}

function textIfAny(key: string, address: IpAddress | undefined): JsonObject {
  return address ? { [key]: formatIp(address) } : {};
}

function listIfAny<Item>(
  key: string,
  items: readonly Item[],
  encode: (item: Item) => JsonObject | string,
): JsonObject {
  return items.length > 0 ? { [key]: items.map(encode) } : {};
}

type WithoutAbsent<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/** The same object without the keys whose value is undefined. */
function withoutAbsent<T extends object>(object: T): WithoutAbsent<T> {
  return Object.fromEntries(
    Object.entries(object).filter(([, value]) => value !== undefined),
  ) as WithoutAbsent<T>;
}
