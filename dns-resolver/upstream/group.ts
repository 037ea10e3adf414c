import type { NameEntry } from "#dns-resolver/registry.ts";
import { formatIp, type IpAddress } from "#net/ip.ts";
import { UpstreamServer } from "./server.ts";

/** Servers that are asked from one network namespace, with what is known of them. */
export interface UpstreamGroup {
  /** The same servers in the same place have the same: cached answers belong to it. */
  readonly key: string;
  /** Where they are asked from; undefined: from the host. */
  readonly netns: NameEntry["netns"] | undefined;
  readonly servers: readonly UpstreamServer[];
  /** Questions to them that are under way. */
  readonly pending: Set<Abandonable>;
  /** Nobody asks them any more: what is opened for questions that are under way ends with them. */
  isClosed: boolean;
}

/** A question that can be given up before its time. */
export interface Abandonable {
  abandon(): void;
}

const nameServerPort = 53;
/** As many as resolv.conf(5) takes. */
const maxServers = 3;
const resolverAddress = 0x7f00000bn;

/**
 * @param netns of the container for servers of its own; undefined for the host's
 * @param addresses in their order; what leads back to the resolver itself is left out
 */
export function openGroup(
  netns: NameEntry["netns"] | undefined,
  addresses: readonly IpAddress[],
): UpstreamGroup {
  const isSelf = (ip: IpAddress) => netns !== undefined && ip.family === 4 && ip.value === resolverAddress;
  const unique = new Map(addresses.filter((ip) => !isSelf(ip)).map((ip) => [formatIp(ip), ip]));
  const chosen = [...unique.values()].slice(0, maxServers);
  const where = netns ? `${netns.dev}:${netns.ino}` : "host";
  return {
    key: `${where} ${chosen.map(formatIp).join()}`,
    netns,
    servers: chosen.map((ip) => new UpstreamServer(ip, nameServerPort)),
    pending: new Set(),
    isClosed: false,
  };
}

/** Reads the servers out of a resolv.conf (resolv.conf(5)); what is no address is passed over. */
export function parseNameServers(
  text: string,
  parse: (word: string) => IpAddress | undefined,
): readonly IpAddress[] {
  return text.split("\n").flatMap((line) => {
    const [keyword, value = ""] = line.trim().split(/\s+/);
    // One with a scope, as fe80::1%eth0, is no address to this parser: it is passed over.
    const address = keyword === "nameserver" ? parse(value) : undefined;
    return address ? [address] : [];
  });
}
