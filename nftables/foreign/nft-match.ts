import { containsIp, parseCidr } from "#net/cidr.ts";
import { equalIp, type IpAddress, parseIp } from "#net/ip.ts";
import type { NftElement } from "#nftables/json.ts";
import { any, not, type Packet, type Truth } from "./packet.ts";

export type NamedSets = ReadonlyMap<string, readonly NftElement[]>;

/** What a packet has in a field: a value, flags of which it has all, or undefined where it is not known. */
export type Value = string | number | IpAddress | { readonly flags: readonly string[] } | undefined;

/** The packet has no such field: no match on it holds. */
export const absent = Symbol("absent");

/** A `match` of `nft -j` (libnftables-json(5)), for a packet that is known in part. */
export function evaluateMatch(match: unknown, packet: Packet, sets: NamedSets): Truth {
  if (!isObject(match)) return undefined;
  const { op, left, right } = match;
  // The reverse path filter: packets that we let pass come from where they are routed to.
  if (isObject(left) && isReversePath(left["fib"])) {
    return right === false ? op === "!=" : op !== "!=";
  }
  const value = fieldValue(left, packet);
  if (value === absent) return false;
  if (op === "==" || op === "in") return isAmong(value, right, sets);
  if (op === "!=") return not(isAmong(value, right, sets));
  if (typeof value !== "number" || typeof right !== "number") return undefined;
  if (op === "<") return value < right;
  if (op === ">") return value > right;
  if (op === "<=") return value <= right;
  return op === ">=" ? value >= right : undefined;
}

function isReversePath(fib: unknown): boolean {
  if (!isObject(fib) || !Array.isArray(fib["flags"])) return false;
  return fib["flags"].includes("saddr") && fib["result"] !== "type";
}

/** What the packet has for an expression on the left of a match. */
export function fieldValue(expression: unknown, packet: Packet): Value | typeof absent {
  if (!isObject(expression)) return undefined;
  const { meta, ct, payload, fib } = expression;
  if (isObject(meta)) return metaValue(meta["key"], packet);
  if (isObject(ct)) return connectionValue(ct["key"], packet);
  if (isObject(payload)) return payloadValue(payload["protocol"], payload["field"], packet);
  if (isObject(fib)) {
    const isDestination = Array.isArray(fib["flags"]) && fib["flags"].includes("daddr");
    return fib["result"] === "type" && isDestination ? (packet.isForHost ? "local" : "unicast") : undefined;
  }
  const masked: unknown = expression["&"];
  // A mark is nought until somebody sets it, and so is each part of it.
  if (Array.isArray(masked)) {
    const value = fieldValue(masked[0], packet);
    return value === 0 ? 0 : undefined;
  }
  return undefined;
}

function metaValue(key: unknown, packet: Packet): Value {
  switch (key) {
    case "iifname":
    case "iif":
      return packet.inInterface;
    case "oifname":
    case "oif":
      return packet.outInterface;
    case "nfproto":
      return packet.family === 4 ? "ipv4" : "ipv6";
    case "protocol":
      return packet.family === 4 ? "ip" : "ip6";
    case "l4proto":
      return packet.protocol;
    case "mark":
      return 0;
    default:
      return undefined;
  }
}

function connectionValue(key: unknown, packet: Packet): Value {
  if (key === "state") return packet.state;
  if (key === "mark") return 0;
  if (key === "status") return { flags: packet.isTranslated ? ["dnat"] : [] };
  if (key === "direction") return packet.state === "new" ? "original" : undefined;
  return undefined;
}

function payloadValue(protocol: unknown, field: unknown, packet: Packet): Value | typeof absent {
  if (protocol === "ip" || protocol === "ip6") {
    if ((protocol === "ip") !== (packet.family === 4)) return absent;
    if (field === "saddr") return packet.source;
    if (field === "daddr") return packet.destination;
    return field === "protocol" || field === "nexthdr" ? packet.protocol : undefined;
  }
  if (protocol === "tcp" || protocol === "udp" || protocol === "sctp" || protocol === "th") {
    if (protocol !== "th" && protocol !== packet.protocol) return absent;
    return field === "dport" ? packet.destinationPort : undefined;
  }
  return ["icmp", "icmpv6", "igmp", "esp", "ah", "dccp", "udplite"].includes(String(protocol))
    ? absent
    : undefined;
}

/** Whether the value is the one on the right of a match, or one of those. */
export function isAmong(value: Value | typeof absent, right: unknown, sets: NamedSets): Truth {
  if (value === absent) return false;
  if (typeof right === "string" && right.startsWith("@")) {
    const elements = sets.get(right.slice(1));
    return elements && any(elements.map(({ key }) => (key.length === 1 ? isOne(value, key[0]) : undefined)));
  }
  const items: unknown = isObject(right) && "set" in right ? right["set"] : right;
  return Array.isArray(items) ? any(items.map((item) => isOne(value, item))) : isOne(value, items);
}

function isOne(value: Value, item: unknown): Truth {
  if (isObject(item) && isObject(item["elem"])) return isOne(value, item["elem"]["val"]);
  if (value === undefined) return isEverything(item) ? true : undefined;
  if (typeof value === "number") return isNumber(value, item);
  if (typeof value === "string") return isText(value, item);
  if ("flags" in value) {
    if (typeof item !== "string") return undefined;
    // Of the others of a connection's status nothing is known.
    return item === "dnat" ? value.flags.includes(item) : undefined;
  }
  return isAddress(value, item);
}

function isEverything(item: unknown): boolean {
  return isObject(item) && isObject(item["prefix"]) && item["prefix"]["len"] === 0;
}

function isNumber(value: number, item: unknown): Truth {
  if (typeof item === "number") return value === item;
  const range = rangeOf(item);
  const [first, last] = range ?? [];
  return typeof first === "number" && typeof last === "number" ? first <= value && value <= last : undefined;
}

function isText(value: string, item: unknown): Truth {
  if (typeof item === "string") {
    return item.endsWith("*") ? value.startsWith(item.slice(0, -1)) : value === item;
  }
  // nft prints protocols by number where it does not know their names.
  return typeof item === "number" ? protocolNumbers[value] === item : undefined;
}

/** IANA "Protocol Numbers" */
const protocolNumbers: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };

function isAddress(value: IpAddress, item: unknown): Truth {
  try {
    if (typeof item === "string") return equalIp(value, parseIp(item));
    const prefix = isObject(item) ? item["prefix"] : undefined;
    if (isObject(prefix)) {
      return containsIp(parseCidr(`${String(prefix["addr"])}/${String(prefix["len"])}`), value);
    }
    const [first, last] = rangeOf(item) ?? [];
    if (typeof first !== "string" || typeof last !== "string") return undefined;
    return parseIp(first).value <= value.value && value.value <= parseIp(last).value;
  } catch {
    // A name of the resolver's, or another family's.
    return undefined;
  }
}

function rangeOf(item: unknown): readonly unknown[] | undefined {
  const range = isObject(item) ? item["range"] : undefined;
  return Array.isArray(range) ? (range as readonly unknown[]) : undefined;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
