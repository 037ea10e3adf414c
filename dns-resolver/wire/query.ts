import { copyBytes } from "./copy.ts";
import { nameEnd, nameText, skipName } from "./name.ts";
import {
  Flag,
  headerBytes,
  maxTcpBytes,
  maxUdpBytes,
  plainUdpBytes,
  Rcode,
  RecordClass,
  RecordType,
} from "./numbers.ts";

/** What a client asks, read once. */
export interface Query {
  readonly id: number;
  /** The second 16 bits of the header. */
  readonly flags: number;
  /** `wire/name.ts` has the form. */
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** The question as it came, in its own case: name, type, class. A copy. */
  readonly question: Uint8Array;
  readonly hasEdns: boolean;
  /** DO: the client wants signatures (RFC 3225). */
  readonly wantsDnssec: boolean;
  /** The longest answer that it takes. */
  readonly maxBytes: number;
}

/** A query that is answered with an error before anybody looks at its name; `drop` with nothing. */
export interface BadQuery {
  readonly rcode: number | "drop";
  readonly id: number;
  readonly flags: number;
  /** Absent where it could not be read. */
  readonly question?: Uint8Array;
  readonly hasEdns: boolean;
}

const u16 = (bytes: Uint8Array, at: number) => ((bytes[at] as number) << 8) | (bytes[at + 1] as number);

/**
 * Reads a query: RFC 1035 section 4, RFC 6891 for EDNS. Never throws.
 * @param end where it ends in `bytes`
 */
export function parseQuery(bytes: Uint8Array, start: number, end: number, isTcp: boolean): Query | BadQuery {
  if (end - start < headerBytes) return { rcode: "drop", id: 0, flags: 0, hasEdns: false };
  const id = u16(bytes, start);
  const flags = u16(bytes, start + 2);
  // An answer to an answer would go round for ever.
  if (flags & Flag.Response) return { rcode: "drop", id, flags, hasEdns: false };
  const bad = (rcode: number, question?: Uint8Array, hasEdns = false): BadQuery => ({
    rcode,
    id,
    flags,
    hasEdns,
    ...(question ? { question } : {}),
  });
  if ((flags & Flag.Opcode) !== 0) return bad(Rcode.NotImp);
  if (u16(bytes, start + 4) !== 1) return bad(Rcode.FormErr);
  if (u16(bytes, start + 6) !== 0 || u16(bytes, start + 8) !== 0) return bad(Rcode.FormErr);
  const nameStart = start + headerBytes;
  const typeAt = nameEnd(bytes, nameStart, end);
  if (typeAt < 0 || typeAt + 4 > end) return bad(Rcode.FormErr);
  const question = copyBytes(bytes, nameStart, typeAt + 4);
  const edns = readEdns(bytes, typeAt + 4, end, u16(bytes, start + 10));
  if (edns === "malformed") return bad(Rcode.FormErr, question);
  if (edns !== undefined && edns.version !== 0) return bad(Rcode.BadVers, question, true);
  const type = u16(bytes, typeAt);
  const recordClass = u16(bytes, typeAt + 2);
  const hasEdns = edns !== undefined;
  if (type === RecordType.OPT) return bad(Rcode.FormErr, question, hasEdns);
  if (recordClass !== RecordClass.IN || type === RecordType.AXFR || type === RecordType.IXFR) {
    return bad(Rcode.Refused, question, hasEdns);
  }
  const udpBytes = Math.min(Math.max(edns?.udpBytes ?? plainUdpBytes, plainUdpBytes), maxUdpBytes);
  return {
    id,
    flags,
    name: nameText(bytes, nameStart),
    type,
    class: recordClass,
    question,
    hasEdns,
    wantsDnssec: edns?.wantsDnssec ?? false,
    maxBytes: isTcp ? maxTcpBytes : udpBytes,
  };
}

export function isBadQuery(query: Query | BadQuery): query is BadQuery {
  return "rcode" in query;
}

interface Edns {
  readonly udpBytes: number;
  readonly version: number;
  readonly wantsDnssec: boolean;
}

/** Options are passed over: none of them changes what we answer (RFC 6891 section 6.1.2). */
function readEdns(
  bytes: Uint8Array,
  start: number,
  end: number,
  count: number,
): Edns | "malformed" | undefined {
  let found: Edns | undefined;
  let at = start;
  for (let index = 0; index < count; index++) {
    const isRoot = bytes[at] === 0;
    at = skipName(bytes, at, end);
    if (at < 0 || at + 10 > end) return "malformed";
    const next = at + 10 + u16(bytes, at + 8);
    if (next > end) return "malformed";
    if (u16(bytes, at) === RecordType.OPT) {
      // Two are as wrong as one that belongs to a name (RFC 6891 section 6.1.1).
      if (found || !isRoot) return "malformed";
      found = {
        udpBytes: u16(bytes, at + 2),
        version: bytes[at + 5] as number,
        wantsDnssec: ((bytes[at + 6] as number) & 0x80) !== 0,
      };
    }
    at = next;
  }
  return found;
}
