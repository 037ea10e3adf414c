import type { Packet, Truth } from "./packet.ts";

/** What becomes of a packet. "unknown": it can't be told, as of a packet that is handed to a program. */
export type Verdict =
  | { readonly kind: "accept" | "drop" | "return" | "unknown" }
  | { readonly kind: "jump" | "goto"; readonly target: string };

export interface FirewallRule {
  /** In the firewall's own language, or near it, for people. */
  readonly text: string;
  /** Undefined for a rule that only counts, logs or marks. */
  decide(packet: Packet): { readonly matches: Truth; readonly verdict: Verdict } | undefined;
}

export interface FirewallChain {
  readonly name: string;
  /** Present in chains that the kernel calls by itself. */
  readonly base?: {
    readonly hook: string;
    readonly priority: number;
    readonly policy: "accept" | "drop";
  };
  readonly rules: readonly FirewallRule[];
}

/** A table of somebody else's that can drop packets. */
export interface FirewallTable {
  readonly backend: "nftables" | "iptables-legacy";
  /** "ip", "ip6" or "inet". */
  readonly family: string;
  readonly name: string;
  readonly chains: ReadonlyMap<string, FirewallChain>;
}

/** How a chain drops a packet. */
export interface Drop {
  /** In which the packet is dropped: a base chain, or one that it jumps to. */
  readonly chain: string;
  /** Undefined where it is the base chain's policy. */
  readonly rule: string | undefined;
  /** False where some rule before it may accept the packet; it can't be told. */
  readonly isCertain: boolean;
}

/** Jumps may not be nested deeper in the kernel: NFT_JUMP_STACK_SIZE (include/net/netfilter/nf_tables.h). */
const maxDepth = 16;

/** Whether a base chain drops the packet; undefined where it does not. What only might be dropped by a rule counts as passed. */
export function findDrop(table: FirewallTable, chain: FirewallChain, packet: Packet): Drop | undefined {
  const end = walk(table, chain, packet, maxDepth);
  if (end.kind === "drop") return { chain: end.chain, rule: end.rule, isCertain: end.isCertain };
  if (end.kind === "accept" || chain.base?.policy !== "drop") return undefined;
  return { chain: chain.name, rule: undefined, isCertain: end.isCertain };
}

type End =
  | {
      readonly kind: "drop";
      readonly chain: string;
      readonly rule: string;
      readonly isCertain: boolean;
    }
  | { readonly kind: "accept" }
  /** Through to the end, or returned. */
  | { readonly kind: "passed"; readonly isCertain: boolean };

function walk(table: FirewallTable, chain: FirewallChain, packet: Packet, depth: number): End {
  let isCertain = true;
  for (const rule of chain.rules) {
    const decision = rule.decide(packet);
    if (!decision || decision.matches === false) continue;
    const { matches, verdict } = decision;
    if (verdict.kind === "jump" || verdict.kind === "goto") {
      const target = table.chains.get(verdict.target);
      const end = target && depth > 0 ? walk(table, target, packet, depth - 1) : undefined;
      if (!end) isCertain = false;
      else if (end.kind === "passed") {
        if (!end.isCertain || (matches === undefined && verdict.kind === "goto")) isCertain = false;
        if (matches === true && verdict.kind === "goto") return { kind: "passed", isCertain };
      } else if (matches === undefined) {
        if (end.kind === "accept") isCertain = false;
      } else if (end.kind === "drop") {
        return { ...end, isCertain: isCertain && end.isCertain };
      } else {
        return end;
      }
    } else if (matches === undefined || verdict.kind === "unknown") {
      // A drop that may be only makes what follows less likely to be reached.
      if (verdict.kind !== "drop") isCertain = false;
    } else if (verdict.kind === "drop") {
      return { kind: "drop", chain: chain.name, rule: rule.text, isCertain };
    } else if (verdict.kind === "accept") {
      return { kind: "accept" };
    } else {
      return { kind: "passed", isCertain };
    }
  }
  return { kind: "passed", isCertain };
}
