import { copyBytes } from "./copy.ts";
import { putOpt } from "./encode.ts";
import { skipName } from "./name.ts";
import { Flag, headerBytes, RecordType } from "./numbers.ts";
import type { Query } from "./query.ts";

/** A server's answer as it is kept: without its OPT record, ready to be sent to whoever asks the same. */
export interface Response {
  /** With the question as we sent it, and id 0. */
  readonly bytes: Uint8Array;
  readonly questionBytes: number;
  readonly rcode: number;
  readonly isTruncated: boolean;
  /** Where the name that was asked for is written out again: in our letters, which each client gets in its own. */
  readonly nameOffsets: readonly number[];
  /** Where TTLs stand. */
  readonly ttlOffsets: readonly number[];
  /** For how long it may be kept, in seconds: RFC 1035 for what there is, RFC 2308 for what is not; 0 for an error. */
  readonly ttlSeconds: number;
}

const optBytes = 11;
const u16 = (bytes: Uint8Array, at: number) => ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
const u32 = (bytes: Uint8Array, at: number) => u16(bytes, at) * 0x10000 + u16(bytes, at + 2);

/** RFC 2181 section 8: the highest bit set means 0. */
const ttlAt = (bytes: Uint8Array, at: number) => {
  const ttl = u32(bytes, at);
  return ttl > 0x7fffffff ? 0 : ttl;
};

/**
 * Reads a server's answer to one of our queries; undefined for what is malformed. That it belongs to the query is for
 * the caller to say.
 */
export function parseResponse(message: Uint8Array): Response | undefined {
  const end = message.length;
  if (end < headerBytes || u16(message, 4) !== 1) return undefined;
  const flags = u16(message, 2);
  if (!(flags & Flag.Response) || (flags & Flag.Opcode) !== 0) return undefined;
  const questionEnd = skipName(message, headerBytes, end);
  if (questionEnd < 0 || questionEnd + 4 > end) return undefined;
  const isTruncated = (flags & Flag.Truncated) !== 0;
  const counts = [u16(message, 6), u16(message, 8), u16(message, 10)] as const;
  const kept = [0, 0, 0];
  const ttlOffsets: number[] = [];
  const nameOffsets: number[] = [];
  let ttl = Infinity;
  let negative = Infinity;
  let rcode = flags & Flag.Rcode;
  let at = questionEnd + 4;
  let cut = -1;
  for (const [section, count] of counts.entries()) {
    for (let index = 0; index < count; index++) {
      const start = at;
      const fixed = skipName(message, at, end);
      if (fixed < 0 || fixed + 10 > end) return isTruncated ? whole() : undefined;
      const next = fixed + 10 + u16(message, fixed + 8);
      if (next > end) return isTruncated ? whole() : undefined;
      const type = u16(message, fixed);
      if (type === RecordType.OPT) {
        rcode |= (message[fixed + 4] as number) << 4;
        // What comes after it may point into what is behind, so it goes as well: nobody needs it.
        if (cut < 0) cut = start;
      } else if (cut < 0) {
        kept[section] = (kept[section] ?? 0) + 1;
        ttlOffsets.push(fixed + 4);
        if (isQuestionName(message, start, fixed, questionEnd)) nameOffsets.push(start);
        const recordTtl = ttlAt(message, fixed + 4);
        if (section < 2) ttl = Math.min(ttl, recordTtl);
        // MINIMUM is the last of SOA's numbers (RFC 1035 section 3.3.13).
        if (section === 1 && type === RecordType.SOA && next - fixed >= 14) {
          negative = Math.min(recordTtl, ttlAt(message, next - 4));
        }
      }
      at = next;
    }
  }
  return whole();

  function whole(): Response {
    const bytes = copyBytes(message, 0, cut < 0 ? at : cut);
    bytes[0] = 0;
    bytes[1] = 0;
    for (const [section, count] of kept.entries()) {
      bytes[6 + 2 * section] = count >> 8;
      bytes[7 + 2 * section] = count & 0xff;
    }
    const isNegative = rcode === 3 || (rcode === 0 && kept[0] === 0);
    const known = rcode === 0 || rcode === 3;
    const seconds = isNegative ? negative : ttl;
    return {
      bytes,
      questionBytes: questionEnd + 4 - headerBytes,
      rcode,
      isTruncated,
      nameOffsets,
      ttlOffsets,
      ttlSeconds: known && !isTruncated && Number.isFinite(seconds) ? seconds : 0,
    };
  }
}

function isQuestionName(message: Uint8Array, start: number, end: number, questionEnd: number): boolean {
  if (end - start !== questionEnd - headerBytes) return false;
  for (let at = start, other = headerBytes; at < end; at++, other++) {
    const a = message[at] as number;
    const b = message[other] as number;
    const isLetter = (a | 0x20) >= 0x61 && (a | 0x20) <= 0x7a;
    if (a !== b && (!isLetter || (a ^ b) !== 0x20)) return false;
  }
  return true;
}

/**
 * The message for one client: its id, its question in its own case, its EDNS, and TTLs that have run for `ageSeconds`.
 * Where it is too long, the question alone with TC.
 */
export function answerFrom(response: Response, query: Query, ageSeconds: number): Uint8Array {
  const edns = query.hasEdns ? optBytes : 0;
  const fits = response.bytes.length + edns <= query.maxBytes;
  const bodyBytes = fits ? response.bytes.length : headerBytes + query.question.length;
  const bytes = new Uint8Array(bodyBytes + edns);
  bytes.set(fits ? response.bytes : response.bytes.subarray(0, headerBytes));
  bytes.set(query.question, headerBytes);
  if (fits) {
    const name = query.question.subarray(0, -4);
    for (const at of response.nameOffsets) bytes.set(name, at);
  }
  bytes[0] = query.id >> 8;
  bytes[1] = query.id & 0xff;
  const upstream = u16(response.bytes, 2);
  const ad = query.wantsDnssec || query.flags & Flag.AuthenticData ? upstream & Flag.AuthenticData : 0;
  const flags =
    Flag.Response |
    (fits ? 0 : Flag.Truncated) |
    (query.flags & (Flag.RecursionDesired | Flag.CheckingDisabled)) |
    Flag.RecursionAvailable |
    ad |
    (response.rcode & Flag.Rcode);
  bytes[2] = flags >> 8;
  bytes[3] = flags & 0xff;
  if (fits) ageTtls(bytes, response.ttlOffsets, ageSeconds);
  else bytes.fill(0, 6, 12);
  if (edns > 0) {
    putOpt(bytes, bodyBytes, response.rcode, query.wantsDnssec);
    const additional = u16(bytes, 10) + 1;
    bytes[10] = additional >> 8;
    bytes[11] = additional & 0xff;
  }
  return bytes;
}

/** Counts all TTLs down, to 0 at least. */
function ageTtls(bytes: Uint8Array, offsets: readonly number[], seconds: number): void {
  if (seconds === 0) return;
  for (const at of offsets) {
    const ttl = Math.max(ttlAt(bytes, at) - seconds, 0);
    bytes[at] = ttl >>> 24;
    bytes[at + 1] = (ttl >>> 16) & 0xff;
    bytes[at + 2] = (ttl >>> 8) & 0xff;
    bytes[at + 3] = ttl & 0xff;
  }
}
