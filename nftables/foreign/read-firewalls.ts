import type { NftListing } from "#nftables/json.ts";
import { findProgram, ProgramError, type ProgramOptions, runProgram } from "#nftables/program.ts";
import type { FirewallTable } from "./firewall.ts";
import { iptablesFirewalls } from "./iptables-firewall.ts";
import { nftFirewalls } from "./nft-firewall.ts";

/** What the other firewalls of a network namespace are. */
export interface ForeignFirewalls {
  readonly tables: readonly FirewallTable[];
  /** What could not be looked at, and why. */
  readonly problems: readonly string[];
}

const xtables = { 4: "iptables", 6: "ip6tables" } as const;

/**
 * All tables that are not ours. Those of iptables-nft are read by iptables-save where they have matches that nft has no
 * word for; those of iptables-legacy where `legacyTables` says that there are some: asking for them would load modules.
 * @param listing the whole ruleset
 * @param legacyTables names in /proc/net/ip_tables_names and ip6_tables_names
 */
export async function readForeignFirewalls(
  listing: NftListing,
  legacyTables: Readonly<Record<4 | 6, readonly string[]>>,
  options: ProgramOptions = {},
): Promise<ForeignFirewalls> {
  const problems: string[] = [];
  const tables: FirewallTable[] = [];
  const attempt = async (program: string, family: 4 | 6, backend: FirewallTable["backend"]) => {
    try {
      findProgram(program, options.searchPath);
      return iptablesFirewalls(await runProgram(program, [], options), family, backend);
    } catch (error) {
      if (!(error instanceof ProgramError)) throw error;
      return error;
    }
  };
  const found = nftFirewalls(listing);
  for (const family of [4, 6] as const) {
    const own = found.filter((table) => table.family === (family === 4 ? "ip" : "ip6"));
    const opaque = own.filter(({ name }) => hasUnknownMatches(listing, family, name));
    const saved = opaque.length > 0 ? await attempt(`${xtables[family]}-nft-save`, family, "nftables") : [];
    // What nft itself tells is good enough where there is no iptables.
    const better = saved instanceof ProgramError ? [] : saved;
    tables.push(
      ...own.map((table) => {
        const isOpaque = opaque.includes(table);
        return (isOpaque && better.find(({ name }) => name === table.name)) || table;
      }),
    );
    if (legacyTables[family].length === 0) continue;
    const legacy = await attempt(`${xtables[family]}-legacy-save`, family, "iptables-legacy");
    if (legacy instanceof ProgramError) {
      problems.push(
        `there are tables of ${xtables[family]}-legacy (${legacyTables[family].join(", ")}), which can't be read: ${legacy.message}`,
      );
    } else tables.push(...legacy);
  }
  return { tables: [...tables, ...found.filter(({ family }) => family === "inet")], problems };
}

function hasUnknownMatches({ rules }: NftListing, family: 4 | 6, table: string): boolean {
  return rules.some((rule) => {
    if (rule.family !== (family === 4 ? "ip" : "ip6") || rule.table !== table) return false;
    return rule.statements.some((each) => typeof each === "object" && each !== null && "xt" in each);
  });
}
