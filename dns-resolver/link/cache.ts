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
      reply(fromCached(query, found, loop.nowMs, { kind: "cache", server: found.server, ageSeconds }));
    };
}

export function cacheKey(groupKey: string, query: Query): string {
  return `${groupKey}\n${questionKey(query)}`;
}

/** The answer for one client. */
export function fromCached(query: Query, cached: Cached, nowMs: number, source: Source): Outcome {
  const { response, bornMs, untilMs } = cached;
  const ageSeconds = Math.floor((nowMs - bornMs) / 1000);
  const message = answerFrom(response, query, ageSeconds);
  const { rcode } = response;
  if (untilMs <= nowMs) return { message, rcode, source };
  // One that was cut to fit has no records of which the TTL could run.
  const isWhole = message.length >= response.bytes.length;
  const ttlOffsets = isWhole ? response.ttlOffsets : [];
  const keptBornMs = bornMs + ageSeconds * 1000;
  return { message, rcode, source, keep: { untilMs, variants: [message], ttlOffsets, bornMs: keptBornMs } };
}
