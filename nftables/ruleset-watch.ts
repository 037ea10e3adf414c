import { NetfilterFamily, NftMessage } from "#netlink/netfilter/header.ts";
import {
  decodeRulesetNews,
  generationsIn,
  type RulesetNews,
  rulesetGroup,
} from "#netlink/netfilter/ruleset-news.ts";
import { NotificationWatch } from "#netlink/notification-watch.ts";
import { Protocol } from "#netlink/socket.ts";
import { CommitLedger } from "./commit-ledger.ts";
import { tableName } from "./set-definition.ts";

/** What a watch has to know of one that commits: an `Nftables`. */
export interface Commits {
  port(): number;
  generation(): number;
  onCommit(listener: (generation: number) => void): () => void;
}

export interface RulesetWatchOptions {
  /** An open namespace; the own one where there is none. Only needed while opening. */
  readonly namespaceFd?: number | undefined;
  /** Whose commits are not told. */
  readonly nftables: Commits;
  /** Somebody else may have taken away something that is ours. */
  readonly onChange: (reason: string) => void;
  /** Nothing more will be noticed. */
  readonly onEnd: (error: Error) => void;
}

/**
 * Tells when another program takes something of the suite's out of nftables: a table (`nft flush ruleset`), a chain, a
 * rule, an element; and when firewalld begins again, by a reload or a start. Other programs' own tables, and what is added to
 * ours, go by unnoticed.
 */
export class RulesetWatch {
  readonly #watch: NotificationWatch;
  readonly #ledger = new CommitLedger();
  readonly #forget: () => void;

  /** @throws {NetlinkError} */
  constructor({ namespaceFd, nftables, onChange, onEnd }: RulesetWatchOptions) {
    this.#watch = new NotificationWatch({
      protocol: Protocol.Netfilter,
      groups: [rulesetGroup],
      namespaceFd,
      ignoredPort: nftables.port(),
      onNews: (notifications) => {
        this.#hear(notifications);
        const reason = reasonIn(notifications);
        if (reason !== undefined) onChange(reason);
      },
      onLoss: () => {
        this.#ledger.restart();
        onChange("notifications of nftables were lost");
      },
      onEnd,
    });
    this.#forget = nftables.onCommit((generation) => this.#ledger.hear(generation));
    this.#ledger.hasMissed(nftables.generation());
  }

  /**
   * True if something was committed that neither the kernel has told of nor is one's own. To be asked every few seconds:
   * says so, once, at the second question.
   * @param generation `Nftables.generation()`, now
   */
  hasMissed(generation: number): boolean {
    return this.#ledger.hasMissed(generation);
  }

  close(): void {
    this.#forget();
    this.#watch.close();
  }

  #hear(notifications: Uint8Array): void {
    try {
      for (const generation of generationsIn(notifications)) this.#ledger.hear(generation);
    } catch {
      // Of a kernel that writes it otherwise: what it does not tell is asked for.
    }
  }
}

/** firewalld's table: made anew by each reload, which forgets the sources of its zones. */
const firewalldTable = "firewalld";

/** What stands in every name of ours, in the names of the reference's chains that we make by iptables, and firewalld's. */
const watchedNames = [tableName, "CNI-", firewalldTable].map((name) => Buffer.from(name));

/** Why something of ours may be gone; undefined for what does not concern us. */
export function reasonIn(notifications: Uint8Array): string | undefined {
  // Others may change thousands of rules at once: one look for a name is cheaper than decoding them.
  const bytes = Buffer.from(notifications.buffer, notifications.byteOffset, notifications.byteLength);
  if (!watchedNames.some((name) => bytes.includes(name))) return undefined;
  try {
    const found = decodeRulesetNews(notifications).find(concernsUs);
    return found && `${words[found.message] ?? "change"} in table ${familyName(found.family)} ${found.table}`;
  } catch {
    // Of a kernel that writes it otherwise: then the whole has to be looked at.
    return "a notification of nftables can't be read";
  }
}

const words: Readonly<Record<number, string>> = {
  [NftMessage.NewTable]: "table changed",
  [NftMessage.DeleteTable]: "table deleted",
  [NftMessage.NewChain]: "chain changed",
  [NftMessage.DeleteChain]: "chain deleted",
  [NftMessage.DeleteRule]: "rule deleted",
  [NftMessage.DeleteSet]: "set deleted",
  [NftMessage.DeleteSetElements]: "element deleted",
};

function concernsUs({ message, table }: RulesetNews): boolean {
  if (words[message] === undefined) return false;
  if (table === firewalldTable) return message === NftMessage.NewTable;
  // Tables of one attachment each, and iptables': only their loss is a loss.
  const isAddition = message === NftMessage.NewTable || message === NftMessage.NewChain;
  return table === tableName || (!isAddition && isSharedName(table));
}

/** The notification names something of ours, and this may be the table in which it is. */
function isSharedName(table: string): boolean {
  return table.startsWith(`${tableName}_`) || ["nat", "raw"].includes(table);
}

function familyName(family: number): string {
  const [name] = Object.entries(NetfilterFamily).find(([, number]) => number === family) ?? [];
  return name ?? String(family);
}
