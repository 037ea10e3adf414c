import type { Handler, Link, Outcome, Source } from "#dns-resolver/chain.ts";
import { isOfNetwork, type Snapshot } from "#dns-resolver/snapshot.ts";
import { encodeAnswer } from "#dns-resolver/wire/encode.ts";
import { encodeName } from "#dns-resolver/wire/name.ts";
import { Rcode, RecordType } from "#dns-resolver/wire/numbers.ts";
import type { Query } from "#dns-resolver/wire/query.ts";
import { type IpAddress, ipFromBytes, isLoopback, tryParseIp } from "#net/ip.ts";
import { noSuchName, noSuchType, ourTtlSeconds } from "./authority.ts";
import { ours } from "./local.ts";

/** The address that a name below in-addr.arpa or ip6.arpa stands for; undefined for any other name. */
export function reverseAddress(name: string): IpAddress | undefined {
  if (name.endsWith(".in-addr.arpa")) {
    const labels = name.slice(0, -".in-addr.arpa".length).split(".");
    return labels.length === 4 ? tryParseIp(labels.reverse().join(".")) : undefined;
  }
  if (!name.endsWith(".ip6.arpa")) return undefined;
  const digits = name.slice(0, -".ip6.arpa".length).split(".");
  if (digits.length !== 32 || !digits.every((each) => /^[0-9a-f]$/.test(each))) return undefined;
  return ipFromBytes(Buffer.from(digits.reverse().join(""), "hex"));
}

/**
 * Names of addresses. Those of the asker's networks are answered here whoever has them: nobody outside knows them, and
 * nobody outside shall hear of them (RFC 6303).
 */
export function reverse(snapshot: Snapshot): Link {
  return (next: Handler): Handler =>
    (query, asker, reply) => {
      const address = query.name.endsWith(".arpa") ? reverseAddress(query.name) : undefined;
      if (!address) {
        next(query, asker, reply);
        return;
      }
      if (isLoopback(address)) {
        reply(pointer(query, "localhost", { kind: "special", rule: "RFC 6303 section 4" }));
        return;
      }
      for (const name of asker.networks) {
        const network = snapshot.network(name);
        if (!network) continue;
        const source = { kind: "local", network: name } as const;
        const [first] = snapshot.at(name, address)?.names ?? [];
        if (first !== undefined) {
          reply(pointer(query, `${first}.${network.domain}`, source));
          return;
        }
        if (isOfNetwork(network, address)) {
          reply(noSuchName(query, source));
          return;
        }
      }
      next(query, asker, reply);
    };
}

function pointer(query: Query, name: string, source: Source): Outcome {
  const data = encodeName(name);
  if (!data) return noSuchName(query, source);
  if (query.type !== RecordType.PTR && query.type !== RecordType.ANY) return noSuchType(query, source);
  const message = encodeAnswer(query, ours([{ type: RecordType.PTR, ttlSeconds: ourTtlSeconds, data }]));
  return {
    message,
    rcode: Rcode.NoError,
    source,
    keep: { untilMs: Infinity, variants: [message], ttlOffsets: [], bornMs: 0 },
  };
}
