import type { LeaseTimes } from "#dhcp/lease-times.ts";
import type { Cidr } from "#net/cidr.ts";
import type { IpAddress } from "#net/ip.ts";
import type { MacAddress } from "#net/mac.ts";
import { type DhcpMessage, Option } from "./message.ts";
import {
  classPrefixLength,
  type OfferedRoute,
  readAddresses,
  readDomainSearch,
  readPrefixLength,
  readRoutes,
  readSeconds,
  readText,
} from "./option-values.ts";

/** What one acknowledgement of a server says. */
export interface Lease {
  readonly address: Cidr;
  readonly server: IpAddress;
  /** Through whom the server is reached: the sender of the frame. */
  readonly serverMac: MacAddress;
  readonly gateway: IpAddress | undefined;
  readonly routes: readonly OfferedRoute[];
  readonly nameservers: readonly IpAddress[];
  readonly domain: string | undefined;
  readonly search: readonly string[];
  readonly times: LeaseTimes;
}

/** Where a server says nothing, as in the reference. */
const defaultLeaseSeconds = 3600;
/** A shorter one would be asked for all the time. */
const leastLeaseSeconds = 10;

/** @param now when the request was sent: RFC 2131 section 4.4.1 */
export function leaseTimes(options: DhcpMessage["options"], now: number): LeaseTimes {
  const lease = Math.max(readSeconds(options, Option.LeaseTime) ?? defaultLeaseSeconds, leastLeaseSeconds);
  const rebind = within(readSeconds(options, Option.RebindingTime), lease * 0.875, lease);
  const renew = within(readSeconds(options, Option.RenewalTime), lease * 0.5, rebind);
  return { obtainedAt: now, renewAt: now + renew, rebindAt: now + rebind, expiresAt: now + lease };
}

/** A server's word counts where it makes sense: T1 before T2 before the end, RFC 2131 section 4.4.5. */
function within(given: number | undefined, usual: number, limit: number): number {
  return given !== undefined && given > 0 && given < limit ? given : Math.min(usual, limit);
}

/** @throws {RangeError} for an acknowledgement that gives no address or no server */
export function readLease(message: DhcpMessage, serverMac: MacAddress, now: number): Lease {
  const { options, yourAddress, clientAddress } = message;
  const address = yourAddress.value === 0n ? clientAddress : yourAddress;
  const [server] = readAddresses(options, Option.ServerIdentifier);
  if (address.value === 0n || !server)
    throw new RangeError("the acknowledgement names no address or no server");
  const prefixLength = readPrefixLength(options) ?? classPrefixLength(address);
  const [gateway] = readAddresses(options, Option.Router);
  return {
    address: { address, prefixLength },
    server,
    serverMac,
    gateway,
    routes: readRoutes(options),
    nameservers: readAddresses(options, Option.DomainNameServer),
    domain: readText(options, Option.DomainName) || undefined,
    search: readDomainSearch(options),
    times: leaseTimes(options, now),
  };
}
