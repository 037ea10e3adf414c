import type { Asker } from "./asker.ts";
import type { Query } from "./wire/query.ts";

/** Where an answer came from, for `netctl dns query` and the log. */
export type Source =
  | { readonly kind: "local"; readonly network: string }
  | { readonly kind: "special"; readonly rule: string }
  | { readonly kind: "internal" }
  | { readonly kind: "cache"; readonly server: string; readonly ageSeconds: number }
  | { readonly kind: "upstream"; readonly server: string; readonly ms: number; readonly tries: number }
  | { readonly kind: "failure"; readonly reason: string };

/** One client's answer. */
export interface Outcome {
  /** Complete, with the client's id. */
  readonly message: Uint8Array;
  readonly rcode: number;
  readonly source: Source;
  /** The very same query may get it again; absent: it may not. */
  readonly keep?: {
    /** As `EventLoop.nowMs`; Infinity: until names change. */
    readonly untilMs: number;
    /** The same in other orders; the message is one of them. */
    readonly variants: readonly Uint8Array[];
    /** Where TTLs stand that count down from `bornMs` on. */
    readonly ttlOffsets: readonly number[];
    readonly bornMs: number;
  };
}

/** Called once, at once or later. */
export type Reply = (outcome: Outcome) => void;

export type Handler = (query: Query, asker: Asker, reply: Reply) => void;

/** Answers what it knows and leaves the rest to the next. */
export type Link = (next: Handler) => Handler;

/** The links in the order in which they are asked. @param last what no link knows */
export function chain(links: readonly Link[], last: Handler): Handler {
  return links.reduceRight((next, link) => link(next), last);
}
