import type { FoundDrop, Traffic } from "./find-drops.ts";
import type { FirewallTable } from "./firewall.ts";

/** A foreign firewall that drops what a network lets pass, in words for its operator. */
export interface DropDescription {
  /** ufw, firewalld, docker, or "" for one that is not known. */
  readonly owner: string;
  /** False where a rule that can't be told may accept it after all. */
  readonly isCertain: boolean;
  /** True where only traffic to the host itself is concerned, of which a network needs none but DNS. */
  readonly isMinor: boolean;
  /** Table, chain, hook, priority, policy, and what it drops. */
  readonly evidence: string;
  readonly remedy: string;
}

const words: Readonly<Record<Traffic, (bridge: string) => string>> = {
  outgoing: (bridge) => `packets from ${bridge} to the outside`,
  answers: (bridge) => `answers from the outside to ${bridge}`,
  published: (bridge) => `packets to published ports behind ${bridge}`,
  internal: (bridge) => `packets between the containers of ${bridge}`,
  host: (bridge) => `packets from ${bridge} to the host, such as DNS`,
};

export function describeDrop({ table, chain, drop, traffic }: FoundDrop, bridge: string): DropDescription {
  const { hook, priority, policy } = chain.base;
  const owner = ownerOf(table);
  const where = `${table.backend === "iptables-legacy" ? "iptables-legacy table" : "table"} ${table.family} ${table.name}, chain ${chain.name} (hook ${hook}, priority ${priority}, policy ${policy})`;
  const by =
    drop.rule === undefined
      ? "by its policy"
      : `by the rule "${drop.rule}"${drop.chain === chain.name ? "" : ` of chain ${drop.chain}`}`;
  const what = traffic.map((each) => words[each](bridge)).join(", ");
  const verb = drop.isCertain ? "drops" : "seems to drop";
  return {
    owner,
    isCertain: drop.isCertain,
    isMinor: traffic.every((each) => each === "host"),
    evidence: `${where}${owner ? ` of ${owner}` : ""} ${verb} ${what} ${by}`,
    remedy: remedyFor(owner, { table, chain: chain.name, traffic, bridge, hook }),
  };
}

function ownerOf(table: FirewallTable): string {
  const names = [...table.chains.keys()];
  if (table.name === "firewalld") return "firewalld";
  if (names.some((name) => /^ufw6?-/u.test(name))) return "ufw";
  return names.some((name) => name === "DOCKER-USER" || name === "DOCKER-FORWARD") ? "docker" : "";
}

interface Circumstances {
  readonly table: FirewallTable;
  readonly chain: string;
  readonly traffic: readonly Traffic[];
  readonly bridge: string;
  readonly hook: string;
}

function remedyFor(owner: string, circumstances: Circumstances): string {
  const { table, chain, traffic, bridge, hook } = circumstances;
  const isToHost = traffic.every((each) => each === "host");
  if (owner === "firewalld") {
    return `firewall-cmd --permanent --zone=trusted --add-interface=${bridge} && firewall-cmd --reload`;
  }
  if (owner === "ufw") {
    if (isToHost) return `ufw allow in on ${bridge}`;
    const needsBack = traffic.includes("published");
    return [
      `ufw route allow in on ${bridge}`,
      ...(needsBack ? [`ufw route allow out on ${bridge}`] : []),
    ].join(" && ");
  }
  const iptables = `${table.family === "ip6" ? "ip6tables" : "iptables"}${table.backend === "iptables-legacy" ? "-legacy" : ""}`;
  if (owner === "docker" && hook === "forward") {
    return `${iptables} -I DOCKER-USER -i ${bridge} -j ACCEPT && ${iptables} -I DOCKER-USER -o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT`;
  }
  const isIptables =
    table.backend === "iptables-legacy" || ["FORWARD", "INPUT", "PREROUTING"].includes(chain);
  if (isIptables) {
    const own = `${iptables} -t ${table.name} -I ${chain} -i ${bridge} -j ACCEPT`;
    return hook === "forward"
      ? `${own} && ${iptables} -t ${table.name} -I ${chain} -o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT`
      : own;
  }
  const rule = `nft insert rule ${table.family} ${table.name} ${chain}`;
  return hook === "forward"
    ? `${rule} iifname ${bridge} accept && ${rule} oifname ${bridge} ct state established,related accept && ${rule} oifname ${bridge} ct status dnat accept`
    : `${rule} iifname ${bridge} accept`;
}
