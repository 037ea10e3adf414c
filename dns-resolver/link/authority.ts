import type { Outcome, Source } from "#dns-resolver/chain.ts";
import { encodeAnswer, encodeError, type OutRecord } from "#dns-resolver/wire/encode.ts";
import { encodeName } from "#dns-resolver/wire/name.ts";
import { Rcode, RecordType } from "#dns-resolver/wire/numbers.ts";
import type { BadQuery, Query } from "#dns-resolver/wire/query.ts";

/** Of everything that we know ourselves: containers come and go. */
export const ourTtlSeconds = 5;

const localhost = encodeName("localhost") ?? Uint8Array.of(0);
const nobody = encodeName("nobody.invalid") ?? Uint8Array.of(0);
const root = Uint8Array.of(0);

/** Serial, refresh, retry, expire, minimum (RFC 1035 section 3.3.13), the last of which says how long "no" holds (RFC 2308). */
const numbers = Buffer.alloc(20);
for (const [index, value] of [1, 3600, 1200, 604_800, ourTtlSeconds].entries())
  numbers.writeUInt32BE(value, index * 4);
const soaData = Buffer.concat([localhost, nobody, numbers]);

const soaOf = (owner?: Uint8Array): OutRecord => ({
  ...(owner ? { owner } : {}),
  type: RecordType.SOA,
  ttlSeconds: ourTtlSeconds,
  data: soaData,
});

function negative(query: Query, rcode: number, authority: OutRecord, source: Source): Outcome {
  const answer = { rcode, isAuthoritative: true, answers: [], authority: [authority], additional: [] };
  const message = encodeAnswer(query, answer);
  return {
    message,
    rcode,
    source,
    keep: { untilMs: Infinity, variants: [message], ttlOffsets: [], bornMs: 0 },
  };
}

/** The name is there, that type is not: NODATA. */
export function noSuchType(query: Query, source: Source): Outcome {
  return negative(query, Rcode.NoError, soaOf(), source);
}

/** NXDOMAIN, for five seconds, from us who know it. */
export function noSuchName(query: Query, source: Source): Outcome {
  return negative(query, Rcode.NxDomain, soaOf(root), source);
}

/** An error, which nobody keeps. */
export function failure(query: Query | BadQuery, rcode: number, reason: string): Outcome {
  return { message: encodeError(query, rcode), rcode, source: { kind: "failure", reason } };
}
