/**
 * Rules that the Go reference plugins have made, for a DEL or CHECK that comes to us instead of them: found by the names and the
 * comments that they give them, which no one else's rules have.
 *
 * | plugin | iptables | nftables |
 * |---|---|---|
 * | bridge, ptp: `ipMasq` | chain CNI-HASH, jumps to it in POSTROUTING | comments in the table inet cni_plugins_masquerade |
 * | portmap | chain CNI-DN-HASH, jumps to it in CNI-HOSTPORT-DNAT | comments in the tables ip and ip6 cni_hostport |
 * | firewall | rules of CNI-FORWARD for an address alone, without a name | |
 * | bridge: `macspoofchk` | | chains cni-br-iface-ID-IFNAME in the table bridge nat |
 *
 * What many share (the tables, CNI-HOSTPORT-DNAT and the like) stays. Every step is a run of a program.
 */
import { createHash } from "node:crypto";
import { formatCidr, hostCidr } from "#net/cidr.ts";
import type { IpAddress } from "#net/ip.ts";
import { masqueradeChain } from "./iptables/masquerade.ts";
import { publishingChain } from "./iptables/ports.ts";
import type { NftRule } from "./json.ts";
import { Nft } from "./nft.ts";
import { ProgramError, type ProgramOptions, runProgram } from "./program.ts";

/** The words that an attachment's rules are named after. */
export interface ReferenceAttachment {
  readonly network: string;
  readonly containerId: string;
  readonly ifName: string;
}

/** The programs of one network namespace. Those that are missing have made nothing. */
export class ReferenceRules {
  readonly #options: ProgramOptions;
  readonly #nft: Nft;

  constructor(options: ProgramOptions = {}) {
    this.#options = options;
    this.#nft = new Nft(options);
  }

  /** What `ipMasq` has made. @throws {ProgramError} */
  async removeMasquerade(attachment: ReferenceAttachment): Promise<void> {
    const { network, containerId } = attachment;
    await this.#removeChain(masqueradeChain(network, containerId), "POSTROUTING");
    await this.#removeRules("inet", "cni_plugins_masquerade", marksMasquerade(attachment));
  }

  /** Whether `ipMasq` has made any. @throws {ProgramError} */
  async hasMasquerade(attachment: ReferenceAttachment): Promise<boolean> {
    const { network, containerId } = attachment;
    return (
      (await this.#hasChain(masqueradeChain(network, containerId), "POSTROUTING")) ||
      (await this.#hasRules("inet", "cni_plugins_masquerade", marksMasquerade(attachment)))
    );
  }

  /** What portmap has made. Newer ones write the container's id alone on their rules. @throws {ProgramError} */
  async removePorts({ network, containerId }: ReferenceAttachment): Promise<void> {
    await this.#removeChain(publishingChain(network, containerId), "CNI-HOSTPORT-DNAT");
    for (const family of ["ip", "ip6"])
      await this.#removeRules(family, "cni_hostport", ({ comment }) => comment === containerId);
  }

  /** Whether portmap has made any. @throws {ProgramError} */
  async hasPorts({ network, containerId }: ReferenceAttachment): Promise<boolean> {
    if (await this.#hasChain(publishingChain(network, containerId), "CNI-HOSTPORT-DNAT")) return true;
    const isOwn = ({ comment }: NftRule) => comment === containerId;
    return (
      (await this.#hasRules("ip", "cni_hostport", isOwn)) ||
      (await this.#hasRules("ip6", "cni_hostport", isOwn))
    );
  }

  /**
   * What firewall has made: its rules name nobody, so only those that let exactly these addresses pass.
   * @param addresses that nobody else can have yet
   * @throws {ProgramError}
   */
  async removeForwarding(addresses: readonly IpAddress[]): Promise<void> {
    const own = new Set(addresses.map(asSource));
    for (const program of programs) {
      for (const rule of (await this.#rulesOf(program, "CNI-FORWARD", "filter")) ?? []) {
        const isAbout = [sourceOf(rule), rule[rule.indexOf("-d") + 1]].some((address) =>
          own.has(address ?? ""),
        );
        if (isAbout && admits(rule)) await this.#run(program, ["-D", ...rule.slice(1)], "filter");
      }
    }
  }

  /** Whether firewall lets all of these addresses pass. @throws {ProgramError} */
  async hasForwarding(addresses: readonly IpAddress[]): Promise<boolean> {
    const admitted = new Set<string>();
    for (const program of programs) {
      for (const rule of (await this.#rulesOf(program, "CNI-FORWARD", "filter")) ?? [])
        if (admits(rule)) admitted.add(sourceOf(rule));
    }
    return addresses.every((address) => admitted.has(asSource(address)));
  }

  /** What `macspoofchk` has made. @throws {ProgramError} */
  async removeSpoofCheck(attachment: ReferenceAttachment): Promise<void> {
    const { chains, mark } = spoofCheckOf(attachment);
    const listing = await this.#listTable("bridge", "nat");
    if (!listing) return;
    const own = listing.chains.filter(({ name }) => chains.includes(name));
    const rules = listing.rules.filter(({ comment, chain }) => comment === mark || chains.includes(chain));
    const commands = [...rules.map(deleteRule), ...own.map(({ name }) => `delete chain bridge nat ${name}`)];
    if (commands.length > 0) await this.#nft.run(commands.join("\n"));
  }

  /** Whether `macspoofchk` has made any. @throws {ProgramError} */
  async hasSpoofCheck(attachment: ReferenceAttachment): Promise<boolean> {
    const { mark } = spoofCheckOf(attachment);
    return await this.#hasRules("bridge", "nat", ({ comment }) => comment === mark);
  }

  async #hasRules(
    family: string,
    table: string,
    isOwn: (rule: NftRule) => boolean | undefined,
  ): Promise<boolean> {
    return (await this.#listTable(family, table))?.rules.some(isOwn) ?? false;
  }

  /** Whether a chain of the table nat is led to from `entry`, in any family. */
  async #hasChain(chain: string, entry: string): Promise<boolean> {
    for (const program of programs) {
      const jumps = ((await this.#rulesOf(program, entry)) ?? []).filter((rule) => leadsTo(rule, chain));
      if (jumps.length > 0) return true;
    }
    return false;
  }

  async #removeRules(
    family: string,
    table: string,
    isOwn: (rule: NftRule) => boolean | undefined,
  ): Promise<void> {
    const rules = (await this.#listTable(family, table))?.rules.filter(isOwn) ?? [];
    if (rules.length > 0) await this.#nft.run(rules.map(deleteRule).join("\n"));
  }

  async #listTable(family: string, table: string) {
    try {
      return await this.#nft.listTable(family, table);
    } catch (error) {
      if (cannotList(error)) return undefined;
      throw error;
    }
  }

  /** A chain of the table nat, of both families, and every rule of `entry` that leads to it. */
  async #removeChain(chain: string, entry: string): Promise<void> {
    for (const program of programs) {
      if ((await this.#rulesOf(program, chain)) === undefined) continue;
      for (const rule of (await this.#rulesOf(program, entry)) ?? []) {
        if (leadsTo(rule, chain)) await this.#run(program, ["-D", ...rule.slice(1)]);
      }
      await this.#run(program, ["-F", chain]);
      await this.#run(program, ["-X", chain]);
    }
  }

  /** As words, the first of which is `-A`; undefined where there is no such chain. */
  async #rulesOf(
    program: string,
    chain: string,
    table = "nat",
  ): Promise<readonly (readonly string[])[] | undefined> {
    try {
      const text = await this.#run(program, ["-S", chain], table);
      return text
        .split("\n")
        .filter((line) => line.startsWith("-A "))
        .map(splitWords);
    } catch (error) {
      if (cannotList(error)) return undefined;
      throw error;
    }
  }

  async #run(program: string, args: readonly string[], table = "nat"): Promise<string> {
    return await runProgram(program, ["-w", "10", "-t", table, ...args], this.#options);
  }
}

const programs = ["iptables", "ip6tables"] as const;

function leadsTo(rule: readonly string[], chain: string): boolean {
  return rule.at(-2) === "-j" && rule.at(-1) === chain;
}

/** A rule of CNI-FORWARD that lets an address pass and says no more. */
function admits(rule: readonly string[]): boolean {
  return rule.at(-1) === "ACCEPT" && !rule.includes("--comment");
}

function sourceOf(rule: readonly string[]): string {
  return rule[rule.indexOf("-s") + 1] ?? "";
}

/** As `iptables -S` prints it. */
function asSource(address: IpAddress): string {
  return formatCidr(hostCidr(address));
}

function marksMasquerade({ network, containerId, ifName }: ReferenceAttachment) {
  const mark = `${shortHash(network)}-${shortHash(`${ifName}:${containerId}`)}`;
  return ({ comment }: NftRule) => comment?.startsWith(mark);
}

function spoofCheckOf({ containerId, ifName }: ReferenceAttachment) {
  const chain = `cni-br-iface-${containerId}-${ifName}`;
  return { mark: `macspoofchk-${containerId}-${ifName}`, chains: [chain, `${chain}-mac`] };
}

/** The reference's utils.MustFormatHashWithPrefix(16, "", …) */
function shortHash(text: string): string {
  return createHash("sha512").update(text).digest("hex").slice(0, 16);
}

function deleteRule({ family, table, chain, handle }: NftRule): string {
  return `delete rule ${family} ${table} ${chain} handle ${handle}`;
}

/** Not there, or of no use on this kernel: then nobody has made anything by it. Not one that was killed. */
function cannotList(error: unknown): boolean {
  return error instanceof ProgramError && (error.missing || error.exitCode !== undefined);
}

/** Words as `iptables -S` prints them: one with blanks stands in double quotes, in which a backslash escapes. */
export function splitWords(line: string): readonly string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/gu)].map(([, quoted, bare]) =>
    quoted === undefined ? (bare ?? "") : quoted.replace(/\\(.)/gu, "$1"),
  );
}
