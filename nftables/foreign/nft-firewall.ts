import type { NftListing, NftRule } from "#nftables/json.ts";
import { isOwnTable } from "#nftables/set-definition.ts";
import type { FirewallChain, FirewallRule, FirewallTable, Verdict } from "./firewall.ts";
import { formatStatement } from "./nft-format.ts";
import { type absent, evaluateMatch, fieldValue, isAmong, type NamedSets, type Value } from "./nft-match.ts";
import { all, type Truth } from "./packet.ts";

type Json = Readonly<Record<string, unknown>>;

/** The tables in a listing of the whole ruleset that are not ours and have chains which can drop packets. */
export function nftFirewalls(listing: NftListing): readonly FirewallTable[] {
  return listing.tables
    .filter(({ family, name }) => ["ip", "ip6", "inet"].includes(family) && !isOwnTable(name))
    .map(({ family, name }): FirewallTable => {
      const isHere = (each: { readonly family: string; readonly table: string }) =>
        each.family === family && each.table === name;
      const sets: NamedSets = new Map(
        listing.sets.filter(isHere).map((set) => [set.name, set.elements] as const),
      );
      const rules = listing.rules.filter(isHere);
      const chains = listing.chains.filter(isHere).map(
        ({ name, base }): FirewallChain => ({
          name,
          ...(base && base.type === "filter"
            ? {
                base: {
                  hook: base.hook,
                  priority: base.priority,
                  policy: base.policy === "drop" ? "drop" : "accept",
                },
              }
            : {}),
          rules: rules.filter(({ chain }) => chain === name).map((rule) => ruleOf(rule, sets)),
        }),
      );
      return {
        backend: "nftables",
        family,
        name,
        chains: new Map(chains.map((chain) => [chain.name, chain])),
      };
    });
}

function ruleOf({ statements }: NftRule, sets: NamedSets): FirewallRule {
  const objects = statements.filter(isObject);
  return {
    text: objects.map(formatStatement).filter(Boolean).join(" "),
    decide(packet) {
      const truths: Truth[] = [];
      for (const statement of objects) {
        const verdict = verdictOf(statement);
        if (verdict) return { matches: all(truths), verdict };
        if ("match" in statement) truths.push(evaluateMatch(statement["match"], packet, sets));
        else if ("limit" in statement || isUnknownMatch(statement)) truths.push(undefined);
        else if (isObject(statement["vmap"])) {
          const { key, data } = statement["vmap"];
          const found = lookUp(fieldValue(key, packet), data, sets);
          if (found === undefined) return { matches: undefined, verdict: { kind: "unknown" } };
          if (found !== null) return { matches: all(truths), verdict: found };
        }
      }
      return undefined;
    },
  };
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What iptables' compatibility layer matches by its own modules; nft tells no more of it than the name. */
function isUnknownMatch(statement: Json): boolean {
  return isObject(statement["xt"]) && statement["xt"]["type"] === "match";
}

function verdictOf(statement: Json): Verdict | undefined {
  if ("accept" in statement) return { kind: "accept" };
  if ("drop" in statement || "reject" in statement) return { kind: "drop" };
  if ("return" in statement) return { kind: "return" };
  if ("queue" in statement) return { kind: "unknown" };
  for (const kind of ["jump", "goto"] as const) {
    const body = statement[kind];
    if (isObject(body) && typeof body["target"] === "string") return { kind, target: body["target"] };
  }
  const xt = statement["xt"];
  if (isObject(xt) && xt["type"] === "target" && xt["name"] === "REJECT") return { kind: "drop" };
  return undefined;
}

/** Of a verdict map: null where the key is not in it, undefined where that can't be told. */
function lookUp(value: Value | typeof absent, data: unknown, sets: NamedSets): Verdict | null | undefined {
  if (value === undefined) return undefined;
  const named = typeof data === "string" ? sets.get(data.replace(/^@/u, "")) : undefined;
  const inline: unknown = isObject(data) ? data["set"] : undefined;
  const entries: readonly (readonly [unknown, unknown])[] = named
    ? named.map(({ key, value }) => [key.length === 1 ? key[0] : { concat: key }, value?.[0]] as const)
    : Array.isArray(inline)
      ? (inline as readonly (readonly [unknown, unknown])[])
      : [];
  let isUncertain = false;
  for (const [key, verdict] of entries) {
    const truth = isAmong(value, key, sets);
    if (truth === true && isObject(verdict)) return verdictOf(verdict) ?? null;
    if (truth === undefined) isUncertain = true;
  }
  return isUncertain ? undefined : null;
}
