import * as v from "valibot";
import type { CniArgs } from "#cni/cni-args.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import { field } from "#cni/json.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { int } from "#cni/schema-values.ts";
import { Option } from "#dhcp/message.ts";
import { sha256Hex } from "#machine/sha256.ts";

/** The IPAM configuration with every default filled in and every contradiction refused. */
export interface DhcpConfig {
  readonly requested: readonly number[];
  /** With the client identifier, which is always there. */
  readonly provided: ReadonlyMap<number, Uint8Array>;
  /** Metric of the routes. */
  readonly priority: number | undefined;
  /** Undefined: as the interface needs it. */
  readonly broadcast: boolean | undefined;
  readonly timeoutMs: number;
}

/** Names that the reference knows, and the usual ones of dhcp-options(5) besides. A number is taken as well. */
const optionNames: Readonly<Record<string, number>> = {
  "subnet-mask": Option.SubnetMask,
  routers: Option.Router,
  "domain-name-servers": Option.DomainNameServer,
  "host-name": Option.HostName,
  "domain-name": Option.DomainName,
  "interface-mtu": Option.InterfaceMtu,
  "static-routes": Option.StaticRoute,
  "vendor-class-identifier": Option.VendorClass,
  "dhcp-client-identifier": Option.ClientIdentifier,
  "user-class": Option.UserClass,
  "domain-search": Option.DomainSearch,
  "classless-static-routes": Option.ClasslessRoutes,
};

const option = v.union([v.string(), int()]);

/** The fields of `ipam`, for who looks for others. */
export const ipamSchema = goObject({
  daemonSocketPath: v.optional(v.string()),
  priority: v.optional(int({ min: 0, max: 0xffffffff })),
  broadcast: v.optional(v.boolean()),
  timeoutSeconds: v.optional(int({ min: 1, max: 600 }), 30),
  provide: v.optional(
    v.array(goObject({ option, value: v.optional(v.string(), ""), fromArg: v.optional(v.string(), "") })),
    [],
  ),
  request: v.optional(
    v.array(goObject({ option: v.optional(option), skipDefault: v.optional(v.boolean(), false) })),
    [],
  ),
});

/** What the result is made of. The reference asks for the first two alone. */
const defaultRequest: readonly number[] = [
  Option.SubnetMask,
  Option.Router,
  Option.ClasslessRoutes,
  Option.StaticRoute,
  Option.DomainNameServer,
  Option.DomainName,
  Option.DomainSearch,
];
/** Without these no lease can be kept. */
const always: readonly number[] = [Option.LeaseTime, Option.RenewalTime, Option.RebindingTime];

/** @throws {CniError} 7 with the field and its value */
export function parseDhcpConfig(
  network: NetworkConfig,
  who: { readonly containerId: string; readonly ifName: string; readonly args: CniArgs },
): DhcpConfig {
  const ipam = field(network.json, "ipam");
  if (ipam === undefined) throw invalid("IPAM config missing 'ipam' key");
  const raw = parseConfig(ipamSchema, ipam, { what: "dhcp configuration" });
  const provided = new Map<number, Uint8Array>();
  for (const [index, { option, value, fromArg }] of raw.provide.entries()) {
    const where = `"provide[${index}]"`;
    const code = optionNumber(option, where);
    const text = value || who.args.find(([key]) => key === fromArg)?.[1] || "";
    if (text === "") continue;
    provided.set(code, optionValue(code, text, where));
  }
  if (!provided.has(Option.ClientIdentifier)) {
    provided.set(Option.ClientIdentifier, defaultClientId(network.name, who));
  }
  const skipsDefault = raw.request.some(({ skipDefault }) => skipDefault);
  const asked = raw.request.flatMap(({ option }, index) =>
    option === undefined || option === "" ? [] : [optionNumber(option, `"request[${index}]"`)],
  );
  return {
    requested: [...new Set([...(skipsDefault ? [] : defaultRequest), ...asked, ...always])],
    provided,
    priority: raw.priority,
    broadcast: raw.broadcast,
    timeoutMs: raw.timeoutSeconds * 1000,
  };
}

function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use dhcp configuration: ${problem}`);
}

function optionNumber(option: string | number, where: string): number {
  const text = String(option);
  const code = Object.hasOwn(optionNames, text)
    ? optionNames[text]
    : /^\d{1,3}$/.test(text)
      ? Number(text)
      : undefined;
  if (code === undefined || code < 1 || code > 254) {
    const names = Object.keys(optionNames).join(", ");
    throw invalid(`${where}.option ${JSON.stringify(option)}: must be 1 to 254 or one of ${names}`);
  }
  return code;
}

const maxValueBytes = 255;

/** A client identifier begins with its type; 0 says that it is no hardware address (RFC 2132 section 9.14). */
function optionValue(code: number, text: string, where: string): Uint8Array {
  const bytes = Buffer.from(text);
  if (bytes.length > maxValueBytes) {
    throw invalid(`${where}.value: it has ${bytes.length} bytes, ${maxValueBytes} is the most`);
  }
  return code === Option.ClientIdentifier ? Buffer.concat([Uint8Array.of(0), bytes]).subarray(0, 255) : bytes;
}

/** As in the reference; what would be cut there, so that two could be the same, ends with a hash. */
function defaultClientId(
  network: string,
  { containerId, ifName }: { readonly containerId: string; readonly ifName: string },
): Uint8Array {
  const text = `${containerId}/${network}/${ifName}`;
  const most = 253;
  const fitting = text.length <= most ? text : `${text.slice(0, most - 33)}/${sha256Hex(text).slice(0, 32)}`;
  return Buffer.concat([Uint8Array.of(0), Buffer.from(fitting)]);
}
