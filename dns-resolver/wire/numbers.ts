/** Types of records (IANA "Domain Name System Parameters"). Others are kept as numbers. */
export const RecordType = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;

export const RecordClass = { IN: 1, ANY: 255 } as const;

/** RCODEs; those above 15 need EDNS. */
export const Rcode = {
  NoError: 0,
  FormErr: 1,
  ServFail: 2,
  NxDomain: 3,
  NotImp: 4,
  Refused: 5,
  BadVers: 16,
} as const;

/** Bits of the second 16 of a header (RFC 1035 section 4.1.1, RFC 4035 section 3). */
export const Flag = {
  Response: 0x8000,
  Opcode: 0x7800,
  Authoritative: 0x0400,
  Truncated: 0x0200,
  RecursionDesired: 0x0100,
  RecursionAvailable: 0x0080,
  AuthenticData: 0x0020,
  CheckingDisabled: 0x0010,
  Rcode: 0x000f,
} as const;

export const headerBytes = 12;
/** RFC 1035 section 2.3.4 */
export const maxNameBytes = 255;
/** What every client takes over UDP (RFC 1035 section 4.2.1). */
export const plainUdpBytes = 512;
/** What we say that we take over UDP: passes every path without fragments (DNS flag day 2020). */
export const ednsUdpBytes = 1232;
/** The most that a client gets over UDP, whatever it says; its loopback carries that in one piece. */
export const maxUdpBytes = 4096;
export const maxTcpBytes = 65_535;

const typeNames = new Map<number, string>([
  ...Object.entries(RecordType).map(([name, number]): [number, string] => [number, name]),
  [43, "DS"],
  [46, "RRSIG"],
  [47, "NSEC"],
  [48, "DNSKEY"],
  [64, "SVCB"],
  [65, "HTTPS"],
  [257, "CAA"],
]);

/** "A" for 1; "TYPE1234" for what has no name here (RFC 3597 section 5). */
export function typeName(type: number): string {
  return typeNames.get(type) ?? `TYPE${type}`;
}

/** The opposite, in any case. @throws {RangeError} */
export function parseTypeName(text: string): number {
  const upper = text.toUpperCase();
  for (const [number, name] of typeNames) if (name === upper) return number;
  const number = /^TYPE(\d{1,5})$/.exec(upper)?.[1];
  if (number !== undefined && Number(number) <= 0xffff) return Number(number);
  throw new RangeError(`Cannot use ${JSON.stringify(text)} as type of a record: expected A, AAAA, TYPE64 …`);
}

const rcodeNames = new Map<number, string>([
  [0, "NOERROR"],
  [1, "FORMERR"],
  [2, "SERVFAIL"],
  [3, "NXDOMAIN"],
  [4, "NOTIMP"],
  [5, "REFUSED"],
  [16, "BADVERS"],
]);

/** "NXDOMAIN" for 3, as dig prints it. */
export function rcodeName(rcode: number): string {
  return rcodeNames.get(rcode) ?? `RCODE${rcode}`;
}
