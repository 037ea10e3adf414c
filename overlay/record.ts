import * as v from "valibot";
import { type Cidr, formatCidr, hasHostBits, parseCidr } from "#net/cidr.ts";
import { formatIp, type IpAddress, parseIp } from "#net/ip.ts";
import { type MacAddress, parseMac } from "#net/mac.ts";

/**
 * The values in the engine: JSON with `"v": 1`. What a newer version has written beside what is known here is kept
 * when the value is written again.
 */

/** A text that `parse` reads, and `format` writes. */
function text<T>(parse: (text: string) => T, format: (value: T) => string) {
  return {
    read: v.pipe(
      v.string(),
      v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
        try {
          return parse(dataset.value);
        } catch (error) {
          addIssue({ message: error instanceof Error ? error.message : String(error) });
          return NEVER;
        }
      }),
    ),
    format,
  };
}

const subnet = text((value: string): Cidr => {
  const cidr = parseCidr(value);
  if (hasHostBits(cidr)) throw new RangeError(`${value} has host bits set`);
  return cidr;
}, formatCidr).read;
const ip = text(parseIp, formatIp).read;
const version = v.literal(1);
const count = v.pipe(v.number(), v.integer(), v.minValue(0));

/** Names of clusters and networks: as CNI has them (SPEC.md, section 1). Keys and files of every host are called so. */
export const namePattern = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;
const name = v.pipe(v.string(), v.regex(namePattern, "no name that a network may have"));

/** A range of subnets for networks. */
const poolSchema = v.looseObject({
  base: subnet,
  /** Prefix length of a network's subnet. */
  size: count,
  /** Prefix length of the part that one host gets at a time. */
  blockLength: count,
});

const clusterSchema = v.looseObject({
  v: version,
  /** Another one: the engine was wiped or restored, or the prefix is somebody else's. */
  uuid: v.string(),
  /** Grows when the cluster was written back into an engine that had lost it; absent before. */
  generation: v.optional(count),
  udpPort: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535)),
  vniMin: count,
  vniMax: count,
  pools: v.array(poolSchema),
});
export type ClusterRecord = v.InferOutput<typeof clusterSchema>;
export type Pool = v.InferOutput<typeof poolSchema>;

const networkSchema = v.looseObject({
  v: version,
  name,
  /** Differs from that of an earlier network of the same name. */
  id: v.string(),
  /** "l3": routes to each host's block. "l2": one Ethernet segment over all hosts, without floods. Never changes. */
  mode: v.picklist(["l3", "l2"]),
  vni: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(0xffffff)),
  subnets: v.array(v.looseObject({ cidr: subnet, blockLength: count })),
  /** Of containers; absent: what the underlay leaves. */
  mtu: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1280), v.maxValue(65535))),
  internal: v.boolean(),
  /** Whom its containers find by name: nobody, those on their own host, or those on all hosts. */
  names: v.optional(v.picklist(["none", "host", "cluster"]), "none"),
  /** Between the hosts. Never changes. */
  encrypted: v.optional(v.boolean(), false),
  state: v.picklist(["active", "deleting"]),
});
export type NetworkRecord = v.InferOutput<typeof networkSchema>;

const hostSchema = v.looseObject({
  v: version,
  id: v.string(),
  name: v.string(),
  underlay: v.looseObject({ v4: v.optional(ip), v6: v.optional(ip) }),
  /** Of the device that has the underlay address, or of the path if that is less. */
  mtu: count,
  /** Public keys that the host takes, oldest first; two while it goes over from one to another. */
  wireguard: v.optional(
    v.looseObject({
      keys: v.array(
        v.looseObject({
          /** Base64 of 32 bytes */
          publicKey: v.pipe(v.string(), v.regex(/^[A-Za-z0-9+/]{43}=$/)),
          /** UDP, at the underlay address */
          port: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535)),
        }),
      ),
    }),
  ),
  state: v.picklist(["active", "removed"]),
});
export type HostRecord = v.InferOutput<typeof hostSchema>;

const blockSchema = v.looseObject({
  v: version,
  cidr: subnet,
  host: v.string(),
  /** Of the claim, to know one's own again. */
  nonce: v.string(),
});
export type BlockRecord = v.InferOutput<typeof blockSchema>;

const cidrText = v.pipe(v.string(), v.check(isCidr, "expected an address with its prefix length"));

function isCidr(value: string): boolean {
  try {
    parseCidr(value);
    return true;
  } catch {
    return false;
  }
}

/** What one container is called in one network. */
const nameSchema = v.looseObject({
  v: version,
  names: v.array(v.string()),
  /** With the prefix length of its host's block. */
  addresses: v.array(cidrText),
  domain: v.optional(v.string()),
});
export type NameRecord = v.InferOutput<typeof nameSchema>;

const mac = text(parseMac, (value: MacAddress) => value).read;
const endpointSchema = v.looseObject({ v: version, mac, ips: v.array(ip) });
export type EndpointRecord = v.InferOutput<typeof endpointSchema>;

const liveSchema = v.looseObject({ v: version, nonce: v.string() });
export type LiveRecord = v.InferOutput<typeof liveSchema>;

const leftSchema = v.looseObject({ v: version, atMs: v.number() });

const vniSchema = v.looseObject({ v: version, network: v.string(), id: v.string() });

const poolsSchema = v.looseObject({
  v: version,
  allocated: v.array(v.looseObject({ cidr: subnet, network: v.string() })),
});
export type PoolsRecord = v.InferOutput<typeof poolsSchema>;

/** A value that is not what it should be. Never to be taken for "nothing there". */
export class RecordError extends Error {
  override readonly name: string = "RecordError";
}

function reader<Schema extends v.GenericSchema>(schema: Schema) {
  return (key: string, value: string): v.InferOutput<Schema> => {
    let json: unknown;
    try {
      json = JSON.parse(value);
    } catch (cause) {
      throw new RecordError(`Cannot read ${key}: no JSON`, { cause });
    }
    const result = v.safeParse(schema, json);
    if (result.success) return result.output;
    const [issue] = result.issues;
    throw new RecordError(`Cannot read ${key}: ${v.getDotPath(issue) ?? "value"}: ${issue.message}`);
  };
}

export const readCluster = reader(clusterSchema);
export const readNetwork = reader(networkSchema);
export const readHost = reader(hostSchema);
export const readBlock = reader(blockSchema);
export const readName = reader(nameSchema);
export const readEndpoint = reader(endpointSchema);
export const readLive = reader(liveSchema);
export const readLeft = reader(leftSchema);
export const readVni = reader(vniSchema);
export const readPools = reader(poolsSchema);

/** JSON with addresses and subnets as people write them. */
export function formatRecord(record: object): string {
  return JSON.stringify(record, (_key, value: unknown) => {
    if (typeof value !== "object" || value === null) return value;
    if (isIp(value)) return formatIp(value);
    if (
      "address" in value &&
      "prefixLength" in value &&
      isIp(value.address) &&
      typeof value.prefixLength === "number"
    )
      return formatCidr({ address: value.address, prefixLength: value.prefixLength });
    return value;
  });
}

function isIp(value: unknown): value is IpAddress {
  return (
    typeof value === "object" &&
    value !== null &&
    "family" in value &&
    "value" in value &&
    typeof value.value === "bigint"
  );
}
