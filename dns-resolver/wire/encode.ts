import { copyBytes } from "./copy.ts";
import { ednsUdpBytes, Flag, headerBytes, maxTcpBytes, Rcode, RecordClass, RecordType } from "./numbers.ts";
import type { BadQuery, Query } from "./query.ts";

/** One record of an answer of ours. */
export interface OutRecord {
  /** Wire form; absent: that of the question. */
  readonly owner?: Uint8Array;
  readonly type: number;
  readonly ttlSeconds: number;
  readonly data: Uint8Array;
}

/** What we know of a question. */
export interface Answer {
  readonly rcode: number;
  /** AA: we are the ones who know. */
  readonly isAuthoritative: boolean;
  readonly answers: readonly OutRecord[];
  readonly authority: readonly OutRecord[];
  readonly additional: readonly OutRecord[];
}

const optBytes = 11;

/** Of one thread, used within one call. */
const scratch = Buffer.alloc(maxTcpBytes);

/** Flags of an answer that repeat the question's. */
const echoed = Flag.RecursionDesired | Flag.CheckingDisabled;

function put16(at: number, value: number): void {
  scratch[at] = value >> 8;
  scratch[at + 1] = value & 0xff;
}

function putRecord(at: number, limit: number, record: OutRecord): number {
  const ownerBytes = record.owner?.length ?? 2;
  const next = at + ownerBytes + 10 + record.data.length;
  if (next > limit) return -1;
  if (record.owner) scratch.set(record.owner, at);
  else put16(at, 0xc000 | headerBytes);
  const fixed = at + ownerBytes;
  put16(fixed, record.type);
  put16(fixed + 2, RecordClass.IN);
  scratch.writeUInt32BE(record.ttlSeconds, fixed + 4);
  put16(fixed + 8, record.data.length);
  scratch.set(record.data, fixed + 10);
  return next;
}

/** OPT without options (RFC 6891 section 6.1.2). */
export function putOpt(into: Uint8Array, at: number, extendedRcode: number, wantsDnssec: boolean): number {
  into[at] = 0;
  into[at + 1] = 0;
  into[at + 2] = RecordType.OPT;
  into[at + 3] = ednsUdpBytes >> 8;
  into[at + 4] = ednsUdpBytes & 0xff;
  into[at + 5] = extendedRcode >> 4;
  into[at + 6] = 0;
  into[at + 7] = wantsDnssec ? 0x80 : 0;
  into[at + 8] = 0;
  into[at + 9] = 0;
  into[at + 10] = 0;
  return at + optBytes;
}

/** The whole message. What does not fit is left out, and TC set for answers that are missing (RFC 2181 section 9). */
export function encodeAnswer(query: Query, answer: Answer): Uint8Array {
  const limit = query.maxBytes - (query.hasEdns ? optBytes : 0);
  scratch.set(query.question, headerBytes);
  let at = headerBytes + query.question.length;
  let isTruncated = false;
  const put = (records: readonly OutRecord[]): number => {
    let count = 0;
    for (const record of records) {
      if (isTruncated) break;
      const next = putRecord(at, limit, record);
      if (next < 0) {
        isTruncated = true;
        break;
      }
      at = next;
      count += 1;
    }
    return count;
  };
  const answers = put(answer.answers);
  const authority = put(answer.authority);
  const isWhole = !isTruncated;
  let additional = put(answer.additional);
  if (query.hasEdns) {
    at = putOpt(scratch, at, answer.rcode, query.wantsDnssec);
    additional += 1;
  }
  const flags =
    Flag.Response |
    (answer.isAuthoritative ? Flag.Authoritative : 0) |
    (isWhole ? 0 : Flag.Truncated) |
    Flag.RecursionAvailable |
    (query.flags & echoed) |
    (answer.rcode & Flag.Rcode);
  putHeader(query.id, flags, 1, answers, authority, additional);
  return copyBytes(scratch, 0, at);
}

function putHeader(
  id: number,
  flags: number,
  questions: number,
  answers: number,
  authority: number,
  additional: number,
): void {
  put16(0, id);
  put16(2, flags);
  put16(4, questions);
  put16(6, answers);
  put16(8, authority);
  put16(10, additional);
}

/** An error, with the question where it could be read. */
export function encodeError(query: BadQuery | Query, rcode: number): Uint8Array {
  const { question } = query;
  let at = headerBytes;
  if (question) {
    scratch.set(question, at);
    at += question.length;
  }
  const needsEdns = query.hasEdns || rcode > Flag.Rcode;
  if (needsEdns) at = putOpt(scratch, at, rcode, false);
  const opcode = query.flags & Flag.Opcode;
  const flags =
    Flag.Response |
    opcode |
    (rcode === Rcode.NotImp ? 0 : Flag.RecursionAvailable) |
    (query.flags & echoed) |
    (rcode & Flag.Rcode);
  putHeader(query.id, flags, question ? 1 : 0, 0, 0, needsEdns ? 1 : 0);
  return copyBytes(scratch, 0, at);
}
