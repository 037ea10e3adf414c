import type { Handler, Link, Outcome, Source } from "#dns-resolver/chain.ts";
import type { EventLoop } from "#dns-resolver/event-loop.ts";
import { questionKey } from "#dns-resolver/upstream/exchange.ts";
import type { Cached, ResponseCache } from "#dns-resolver/upstream/response-cache.ts";
import type { Query } from "#dns-resolver/wire/query.ts";
import { answerFrom } from "#dns-resolver/wire/response.ts";

/** Answers of servers that still hold. */
export function cache(responses: ResponseCache, loop: EventLoop): Link {
  return (next: Handler): Handler =>
    (query, asker, reply) => {
      const { upstreams } = asker;
      const found = upstreams && responses.find(cacheKey(upstreams.key, query), loop.nowMs);
      if (!found) {
        next(query, asker, reply);
        return;
      }
      const ageSeconds = Math.floor((loop.nowMs - found.bornMs) / 1000);
      const source = { kind: "cache", server: found.server, ageSeconds } as const;
      const outcome = fromCached(query, found, loop.nowMs, source);
      const { message } = outcome;
      const { response, untilMs, bornMs } = found;
      // One that was cut to fit has no records of which the TTL could run.
      const isWhole = message.length >= response.bytes.length;
      const ttlOffsets = isWhole ? response.ttlOffsets : [];
      const keep = { untilMs, variants: [message], ttlOffsets, bornMs: bornMs + ageSeconds * 1000 };
      reply({ ...outcome, keep });
    };
}

export function cacheKey(groupKey: string, query: Query): string {
  return `${groupKey}\n${questionKey(query)}`;
}

/** The answer for one client. Not one to be given again without looking: only who asks twice may ask often. */
export function fromCached(query: Query, cached: Cached, nowMs: number, source: Source): Outcome {
  const { response, bornMs } = cached;
  const ageSeconds = Math.floor((nowMs - bornMs) / 1000);
  return { message: answerFrom(response, query, ageSeconds), rcode: response.rcode, source };
}
