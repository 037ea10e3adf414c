/**
 * Ports that are published only where further conditions hold. Such conditions are rules, which no map can hold, so
 * each attachment that has some gets tables of its own, loaded and deleted by the nft program:
 *
 *     table ip netctl_ports_5f0c3a9e01234567 {
 *         chain ports { tcp dport 8080 dnat to 10.1.0.2:80; }
 *         chain prerouting { type nat hook prerouting priority -100; CONDITIONS fib daddr type local jump ports; }
 *         chain output     { type nat hook output priority -100; CONDITIONS fib daddr type local jump ports; }
 *     }
 */
import { formatIp, type IpAddress } from "#net/ip.ts";
import type { Nft } from "./nft.ts";
import type { OwnerTag } from "./owner.ts";
import { type PublishedPorts, portElements } from "./ports.ts";
import { ProgramError } from "./program.ts";

export interface ConditionalPorts {
  readonly published: readonly PublishedPorts[];
  /** In nft's language, one word each; a family without any is left out. */
  readonly conditions: Readonly<Record<4 | 6, readonly string[]>>;
  readonly owner: OwnerTag;
}

const nftFamily = { 4: "ip", 6: "ip6" } as const;

function tableOf(owner: OwnerTag): string {
  return `netctl_ports_${owner.slice(0, 16)}`;
}

/** Makes the tables; an earlier one of the same owner is replaced. @throws {ProgramError} nft does not understand */
export async function addConditionalPorts(nft: Nft, ports: ConditionalPorts): Promise<void> {
  const scripts = familiesOf(ports).map((family) => tableText(ports, family));
  if (scripts.length > 0) await nft.run(scripts.join("\n"));
}

/** Deletes the tables; what is not there is fine. @throws {ProgramError} */
export async function removeConditionalPorts(nft: Nft, ports: ConditionalPorts): Promise<void> {
  for (const family of familiesOf(ports)) {
    try {
      await nft.run(`delete table ${nftFamily[family]} ${tableOf(ports.owner)}`);
    } catch (error) {
      // Without nft there is no table either.
      const isGone = error instanceof ProgramError && (error.missing || /no such file/iu.test(error.stderr));
      if (!isGone) throw error;
    }
  }
}

/** What is not there, in words; empty if all is well. @throws {ProgramError} */
export async function missingConditionalPorts(nft: Nft, ports: ConditionalPorts): Promise<readonly string[]> {
  const missing: string[] = [];
  for (const family of familiesOf(ports)) {
    const name = tableOf(ports.owner);
    const listing = await nft.listTable(nftFamily[family], name);
    const rules = (chain: string) => listing?.rules.filter((rule) => rule.chain === chain).length ?? 0;
    const isWhole =
      rules("ports") === rulesOf(ports, family).length && rules("prerouting") === 1 && rules("output") === 1;
    if (!isWhole) missing.push(`table ${nftFamily[family]} ${name} is ${listing ? "damaged" : "missing"}`);
  }
  return missing;
}

function familiesOf({ published, conditions }: ConditionalPorts): readonly (4 | 6)[] {
  return ([4, 6] as const).filter((family) => {
    return conditions[family].length > 0 && published.some(({ container }) => container.family === family);
  });
}

function tableText(ports: ConditionalPorts, family: 4 | 6): string {
  const table = `${nftFamily[family]} ${tableOf(ports.owner)}`;
  const entry = `${ports.conditions[family].join(" ")} fib daddr type local jump ports`;
  const base = (hook: string) =>
    `chain ${hook} { type nat hook ${hook} priority -100; policy accept; ${entry}; }`;
  return [
    // Declared first, so that the deletion does not fail where it never was.
    `table ${table} { }`,
    `delete table ${table}`,
    `table ${table} {`,
    `comment "${ports.owner}"`,
    `chain ports {`,
    ...rulesOf(ports, family),
    "}",
    base("prerouting"),
    base("output"),
    "}",
  ].join("\n");
}

/** One rule for each element that there would be without conditions. */
function rulesOf({ published, owner }: ConditionalPorts, family: 4 | 6): readonly string[] {
  return published
    .filter(({ container }) => container.family === family)
    .flatMap((ports) => {
      const { protocol, hostIp, hostPorts, container } = ports;
      const to = hostIp ? `${nftFamily[family]} daddr ${formatIp(hostIp)} ` : "";
      return portElements(ports, owner).map(({ key, value }) => {
        const [, toPort] = value;
        const last = key[key.length - 1];
        if (toPort === undefined || typeof last !== "number") {
          const { first, last: end } = hostPorts;
          return `${to}${protocol} dport ${first}-${end} dnat to ${bracketed(container)}`;
        }
        return `${to}${protocol} dport ${last} dnat to ${bracketed(container)}:${toPort}`;
      });
    });
}

function bracketed(address: IpAddress): string {
  return address.family === 6 ? `[${formatIp(address)}]` : formatIp(address);
}
