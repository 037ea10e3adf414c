import { readDomainNames } from "#dhcp/domain-names.ts";
import type { LeaseTimes } from "#dhcp/lease-times.ts";
import { equalIp, formatIp, type IpAddress, ipFromBytes } from "#net/ip.ts";
import type { Association } from "./association.ts";
import { type DhcpMessage, decodeOptions, findOption, Option } from "./message.ts";

/** What a client has from one server. Seconds since the machine's start. */
export interface Lease {
  /** Its DUID. */
  readonly server: Uint8Array;
  readonly addresses: readonly LeasedAddress[];
  readonly nameservers: readonly IpAddress[];
  readonly search: readonly string[];
  /** Addresses and names, of NTP and SNTP. */
  readonly timeServers: readonly string[];
  /** `expiresAt` is the end of the address that ends first. */
  readonly times: LeaseTimes;
}

export interface LeasedAddress {
  /** IAID */
  readonly association: number;
  readonly address: IpAddress;
  /** No longer to be used for what is new: RFC 4862 section 5.5.4. */
  readonly preferredUntil: number;
  readonly validUntil: number;
}

/** A shorter one would be asked for all the time. */
const leastPauseSeconds = 5;

/** @param now when it was asked for */
export function leasedAddresses(associations: readonly Association[], now: number): readonly LeasedAddress[] {
  return associations.flatMap(({ id, addresses }) =>
    addresses
      .filter(({ validSeconds }) => validSeconds > 0)
      .map(({ address, preferredSeconds, validSeconds }) => ({
        association: id,
        address,
        preferredUntil: now + preferredSeconds,
        validUntil: now + validSeconds,
      })),
  );
}

/**
 * T1 and T2 of all associations are those that come first (RFC 8415 section 18.2.4); where servers leave them to the
 * client, half and four fifths of the shortest time for which an address is preferred (section 21.4).
 */
export function leaseTimes(
  associations: readonly Association[],
  addresses: readonly LeasedAddress[],
  now: number,
): LeaseTimes {
  const expiresAt = Math.min(...addresses.map(({ validUntil }) => validUntil));
  const preferredUntil = Math.min(...addresses.map((each) => each.preferredUntil));
  const preferred = preferredUntil > now ? preferredUntil - now : expiresAt - now;
  const rebind = Math.min(
    ...associations.map(({ rebindSeconds }) => rebindSeconds || 0.8 * preferred),
    expiresAt - now,
  );
  const renew = Math.min(...associations.map(({ renewSeconds }) => renewSeconds || 0.5 * preferred), rebind);
  return {
    obtainedAt: now,
    renewAt: now + Math.max(renew, leastPauseSeconds),
    rebindAt: now + Math.max(rebind, leastPauseSeconds),
    expiresAt,
  };
}

/**
 * The lease that a REPLY gives.
 * @param associations those of it that count
 * @returns undefined without an address
 */
export function readLease(
  { options }: DhcpMessage,
  associations: readonly Association[],
  now: number,
): Lease | undefined {
  const server = findOption(options, Option.ServerIdentifier);
  const addresses = leasedAddresses(associations, now);
  if (!server || addresses.length === 0) return undefined;
  const nameservers = findOption(options, Option.NameServers) ?? new Uint8Array();
  const search = findOption(options, Option.DomainSearch) ?? new Uint8Array();
  return {
    server,
    addresses,
    nameservers: readAddresses(nameservers),
    search: readDomainNames(search, { compressed: false }),
    timeServers: readTimeServers(options),
    times: leaseTimes(associations, addresses, now),
  };
}

function readAddresses(value: Uint8Array): readonly IpAddress[] {
  const found: IpAddress[] = [];
  for (let at = 0; at + 16 <= value.length; at += 16) found.push(ipFromBytes(value.subarray(at, at + 16)));
  return found;
}

/** NTP_SUBOPTION_*: RFC 5908 section 4 */
const NtpSuboption = { Address: 1, Multicast: 2, Name: 3 } as const;

function readTimeServers(options: DhcpMessage["options"]): readonly string[] {
  const found: string[] = [];
  for (const { code, value } of options) {
    if (code === Option.SntpServers) found.push(...readAddresses(value).map(formatIp));
    if (code !== Option.NtpServer) continue;
    for (const { code: kind, value: server } of decodeOptions(value) ?? []) {
      if (kind === NtpSuboption.Name) found.push(...readDomainNames(server, { compressed: false }));
      else if (kind === NtpSuboption.Address || kind === NtpSuboption.Multicast)
        found.push(...readAddresses(server).map(formatIp));
    }
  }
  return [...new Set(found)];
}

export function hasAddress({ addresses }: Lease, address: IpAddress): boolean {
  return addresses.some((each) => equalIp(each.address, address));
}

/** What is left when some addresses have expired. */
export function unexpired(lease: Lease, now: number): Lease | undefined {
  const addresses = lease.addresses.filter(({ validUntil }) => validUntil > now);
  if (addresses.length === 0) return undefined;
  const expiresAt = Math.min(...addresses.map(({ validUntil }) => validUntil));
  return { ...lease, addresses, times: { ...lease.times, expiresAt } };
}
