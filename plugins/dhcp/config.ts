import * as v from "valibot";
import type { CniArgs } from "#cni/cni-args.ts";
import { field } from "#cni/json.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { int, ip, oneOf } from "#cni/schema-values.ts";
import { Option } from "#dhcp/v4/message.ts";
import type { ClientIdentity } from "#dhcp/v6/conversation.ts";
import { associationId, duidOf } from "#dhcp/v6/duid.ts";
import { Option as Option6 } from "#dhcp/v6/message.ts";
import { sha256Hex } from "#machine/sha256.ts";
import { formatIp, type IpAddress } from "#net/ip.ts";
import { invalid, optionFields, readOptions } from "./options.ts";
import { optionsOfDhcp4 } from "./options-v4.ts";
import { optionsOfDhcp6 } from "./options-v6.ts";

/** The IPAM configuration with every default filled in and every contradiction refused. */
export interface DhcpConfig {
  /** Undefined: IPv4 is not asked for. */
  readonly ipv4: Ipv4Config | undefined;
  /** Undefined: IPv6 is not asked for. */
  readonly ipv6: Ipv6Config | undefined;
  /** Metric of the routes. */
  readonly priority: number | undefined;
  readonly timeoutMs: number;
}

export interface Ipv4Config {
  readonly requested: readonly number[];
  /** With the client identifier, which is always there. */
  readonly provided: ReadonlyMap<number, Uint8Array>;
  /** Undefined: as the interface needs it. */
  readonly broadcast: boolean | undefined;
}

export interface Ipv6Config {
  readonly identity: ClientIdentity;
  /** Of the addresses, since DHCPv6 has none. */
  readonly prefixLength: number;
  /** Undefined: router advertisements say it. */
  readonly gateway: IpAddress | undefined;
  readonly duplicateAddressDetection: boolean;
}

const mostAddresses = 16;

const ipv6Schema = goObject({
  ...optionFields,
  rapidCommit: v.optional(v.boolean(), true),
  addresses: v.optional(int({ min: 1, max: mostAddresses }), 1),
  prefixLength: v.optional(int({ min: 1, max: 128 }), 128),
  gateway: v.optional(ip),
  dad: v.optional(v.boolean(), true),
});

/** The fields of `ipam`, for who looks for others. */
export const ipamSchema = goObject({
  ...optionFields,
  daemonSocketPath: v.optional(v.string()),
  priority: v.optional(int({ min: 0, max: 0xffffffff })),
  broadcast: v.optional(v.boolean()),
  timeoutSeconds: v.optional(int({ min: 1, max: 600 }), 30),
  families: v.optional(v.array(oneOf(["ipv4", "ipv6"])), ["ipv4"]),
  ipv6: v.optional(ipv6Schema),
});

/** Without these no lease can be kept. */
const always: readonly number[] = [Option.LeaseTime, Option.RenewalTime, Option.RebindingTime];

interface Requester {
  readonly containerId: string;
  readonly ifName: string;
  readonly args: CniArgs;
}

/** @throws {CniError} 7 with the field and its value */
export function parseDhcpConfig(network: NetworkConfig, who: Requester): DhcpConfig {
  const ipam = field(network.json, "ipam");
  if (ipam === undefined) throw invalid("IPAM config missing 'ipam' key");
  const raw = parseConfig(ipamSchema, ipam, { what: "dhcp configuration" });
  const { families, ipv6, priority, timeoutSeconds, broadcast } = raw;
  if (families.length === 0) throw invalid('families []: must name "ipv4", "ipv6" or both');
  if (ipv6 && !families.includes("ipv6")) {
    throw invalid(`"ipv6" is set, and families ${JSON.stringify(families)} is without "ipv6"`);
  }
  const name = `${who.containerId}/${network.name}/${who.ifName}`;
  const options = readOptions(raw, optionsOfDhcp4, who.args);
  return {
    ipv4: families.includes("ipv4")
      ? {
          requested: [...new Set([...options.requested, ...always])],
          provided: options.provided.has(Option.ClientIdentifier)
            ? options.provided
            : new Map([...options.provided, [Option.ClientIdentifier, defaultClientId(name)]]),
          broadcast,
        }
      : undefined,
    ipv6: families.includes("ipv6") ? readIpv6(ipv6 ?? v.parse(ipv6Schema, {}), name, who) : undefined,
    priority,
    timeoutMs: timeoutSeconds * 1000,
  };
}

function readIpv6(
  raw: v.InferOutput<typeof ipv6Schema>,
  name: string,
  { ifName, args }: Requester,
): Ipv6Config {
  const { gateway, prefixLength, addresses, rapidCommit, dad } = raw;
  if (gateway?.family === 4)
    throw invalid(`ipv6.gateway ${JSON.stringify(formatIp(gateway))}: must be of IPv6`);
  const { requested, provided } = readOptions(raw, optionsOfDhcp6, args);
  const duid = provided.get(Option6.ClientIdentifier) ?? duidOf(name);
  provided.delete(Option6.ClientIdentifier);
  const associations = Array.from({ length: addresses }, (_, index) => associationId(ifName, index));
  return {
    identity: { duid, associations, requested, provided, rapidCommit },
    prefixLength,
    gateway,
    duplicateAddressDetection: dad,
  };
}

/** As in the reference; what would be cut there, so that two could be the same, ends with a hash. */
function defaultClientId(text: string): Uint8Array {
  const most = 253;
  const fitting = text.length <= most ? text : `${text.slice(0, most - 33)}/${sha256Hex(text).slice(0, 32)}`;
  return Buffer.concat([Uint8Array.of(0), Buffer.from(fitting)]);
}
