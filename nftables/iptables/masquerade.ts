/**
 * `ipMasq` in the shape of the reference plugins' iptables backend, for configurations that insist on it. In
 * the table nat of iptables and ip6tables, for each attachment:
 *
 *     POSTROUTING  -s ADDRESS -j CNI-HASH
 *     CNI-HASH     -d SUBNET -j ACCEPT
 *     CNI-HASH     ! -d 224.0.0.0/4 -j MASQUERADE        (ff00::/8)
 *
 * The name of the chain has no interface name in it, as in the reference, so two attachments of one container
 * to one network share it: it goes with the last of them.
 */
import { createHash } from "node:crypto";
import { type Cidr, formatCidr, hostCidr, networkOf } from "#net/cidr.ts";
import { findProgram, ProgramError, type ProgramOptions, runProgram } from "#nftables/program.ts";

export interface IptablesAttachment {
  readonly network: string;
  readonly containerId: string;
  /** With the prefix length of their subnet. */
  readonly addresses: readonly Cidr[];
}

type Family = 4 | 6;
/** A rule without the `-A` or `-C` in front: the chain, then its matches and target. */
type Rule = readonly [chain: string, ...rest: readonly string[]];

const programs = { 4: "iptables", 6: "ip6tables" } as const;
const multicast = { 4: "224.0.0.0/4", 6: "ff00::/8" } as const;

/** XT_MAX_COMMENT_LEN (include/uapi/linux/netfilter/xt_comment.h) without the terminating zero. */
const maxCommentBytes = 255;

/** Seconds to wait for the lock that iptables-legacy takes. */
const lockSeconds = "10";

/** The reference's utils.FormatChainName: 28 characters, the most that iptables allows. */
export function masqueradeChain(network: string, containerId: string): string {
  return `CNI-${createHash("sha512").update(`${network}${containerId}`).digest("hex").slice(0, 24)}`;
}

function commentOf({ network, containerId }: IptablesAttachment): readonly string[] {
  const text = Buffer.from(`name: ${JSON.stringify(network)} id: ${JSON.stringify(containerId)}`);
  return [
    "-m",
    "comment",
    "--comment",
    text
      .subarray(0, maxCommentBytes)
      .toString("utf8")
      .replace(/\ufffd+$/u, ""),
  ];
}

function jumps(attachment: IptablesAttachment, family: Family): readonly Rule[] {
  const chain = masqueradeChain(attachment.network, attachment.containerId);
  return ofFamily(attachment, family).map((cidr) => [
    "POSTROUTING",
    "-s",
    formatCidr(hostCidr(cidr.address)),
    ...commentOf(attachment),
    "-j",
    chain,
  ]);
}

function exceptions(attachment: IptablesAttachment, family: Family): readonly Rule[] {
  const chain = masqueradeChain(attachment.network, attachment.containerId);
  return ofFamily(attachment, family).map((cidr) => [
    chain,
    "-d",
    formatCidr(networkOf(cidr)),
    ...commentOf(attachment),
    "-j",
    "ACCEPT",
  ]);
}

function masquerade(attachment: IptablesAttachment, family: Family): Rule {
  const chain = masqueradeChain(attachment.network, attachment.containerId);
  return [chain, "!", "-d", multicast[family], ...commentOf(attachment), "-j", "MASQUERADE"];
}

function ofFamily({ addresses }: IptablesAttachment, family: Family): readonly Cidr[] {
  return addresses.filter((cidr) => cidr.address.family === family);
}

export class IptablesMasquerade {
  readonly #options: ProgramOptions;

  constructor(options: ProgramOptions = {}) {
    this.#options = options;
  }

  /** @throws {ProgramError} a program is not installed, or the kernel has no such table */
  async usable(families: readonly Family[] = [4, 6]): Promise<void> {
    for (const family of families) await this.#run(family, "-S", "POSTROUTING");
  }

  /** Makes the rules that are missing. @throws {ProgramError} */
  async add(attachment: IptablesAttachment): Promise<void> {
    const chain = masqueradeChain(attachment.network, attachment.containerId);
    for (const family of [4, 6] as const) {
      if (ofFamily(attachment, family).length === 0) continue;
      if (!(await this.#succeeds(family, "-S", chain))) await this.#run(family, "-N", chain);
      // In front of the masquerading, which may be there for another address already.
      for (const rule of exceptions(attachment, family)) await this.#ensure(family, "-I", rule);
      await this.#ensure(family, "-A", masquerade(attachment, family));
      for (const rule of jumps(attachment, family)) await this.#ensure(family, "-A", rule);
    }
  }

  /** The rules that are not there, in iptables' words; empty if all is well. @throws {ProgramError} */
  async missing(attachment: IptablesAttachment): Promise<readonly string[]> {
    const missing: string[] = [];
    for (const family of [4, 6] as const) {
      const own = jumps(attachment, family);
      if (own.length === 0) continue;
      findProgram(programs[family], this.#options.searchPath);
      for (const rule of [...own, ...exceptions(attachment, family), masquerade(attachment, family)]) {
        if (!(await this.#succeeds(family, "-C", ...rule))) {
          missing.push(`${programs[family]} -t nat -A ${rule.join(" ")}`);
        }
      }
    }
    return missing;
  }

  /**
   * Removes the rules of these addresses, and the chain once nothing leads to it. What is not there is fine; so
   * is a program that is not installed, as it can't have made anything.
   * @throws {ProgramError}
   */
  async remove(attachment: IptablesAttachment): Promise<void> {
    const chain = masqueradeChain(attachment.network, attachment.containerId);
    for (const family of [4, 6] as const) {
      if (!(await this.#succeeds(family, "-S", chain))) continue;
      for (const rule of jumps(attachment, family)) {
        // An earlier program may have added it twice.
        while (await this.#succeeds(family, "-C", ...rule)) await this.#run(family, "-D", ...rule);
      }
      const rest = await this.#run(family, "-S", "POSTROUTING");
      if (rest.split("\n").some((line) => line.endsWith(` -j ${chain}`))) continue;
      await this.#run(family, "-F", chain);
      await this.#run(family, "-X", chain);
    }
  }

  async #ensure(family: Family, how: "-A" | "-I", rule: Rule): Promise<void> {
    if (!(await this.#succeeds(family, "-C", ...rule))) await this.#run(family, how, ...rule);
  }

  async #run(family: Family, ...args: readonly string[]): Promise<string> {
    return await runProgram(programs[family], ["-w", lockSeconds, "-t", "nat", ...args], this.#options);
  }

  /** False if the program said no, or is not there. */
  async #succeeds(family: Family, ...args: readonly string[]): Promise<boolean> {
    try {
      await this.#run(family, ...args);
      return true;
    } catch (error) {
      if (error instanceof ProgramError && (error.exitCode === 1 || error.missing)) return false;
      throw error;
    }
  }
}
