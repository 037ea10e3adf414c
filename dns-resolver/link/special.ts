import type { Handler, Link } from "#dns-resolver/chain.ts";
import { encodeAnswer } from "#dns-resolver/wire/encode.ts";
import { Rcode, RecordType } from "#dns-resolver/wire/numbers.ts";
import { noSuchName, noSuchType, ourTtlSeconds } from "./authority.ts";
import { ours } from "./local.ts";

const loopback: Readonly<Record<number, Uint8Array>> = {
  [RecordType.A]: Uint8Array.of(127, 0, 0, 1),
  [RecordType.AAAA]: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1),
};

/** Names that mean the same everywhere, and that no server has to hear of (RFC 6761 sections 6.3 and 6.4). */
export const special: Link =
  (next: Handler): Handler =>
  (query, asker, reply) => {
    const { name, type } = query;
    if (name === "invalid" || name.endsWith(".invalid")) {
      reply(noSuchName(query, { kind: "special", rule: "RFC 6761 section 6.4" }));
      return;
    }
    if (name !== "localhost" && !name.endsWith(".localhost")) {
      next(query, asker, reply);
      return;
    }
    const source = { kind: "special", rule: "RFC 6761 section 6.3" } as const;
    const data = loopback[type];
    if (!data) {
      reply(noSuchType(query, source));
      return;
    }
    const message = encodeAnswer(query, ours([{ type, ttlSeconds: ourTtlSeconds, data }]));
    reply({ message, rcode: Rcode.NoError, source });
  };
