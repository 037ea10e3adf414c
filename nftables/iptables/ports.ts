/**
 * Published ports in the shape of the reference plugin's iptables backend, for configurations that insist on it. In
 * the table nat of iptables and ip6tables:
 *
 *     PREROUTING, OUTPUT   -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
 *     CNI-HOSTPORT-DNAT    -m multiport -p tcp --destination-ports 8080,8081 CONDITIONS -j CNI-DN-HASH
 *     CNI-DN-HASH          -p tcp --dport 8080 -s SUBNET -j CNI-HOSTPORT-SETMARK         (hairpin)
 *     CNI-DN-HASH          -p tcp --dport 8080 -s 127.0.0.1 -j CNI-HOSTPORT-SETMARK      (IPv4)
 *     CNI-DN-HASH          -p tcp --dport 8080 -j DNAT --to-destination ADDRESS:80
 *     CNI-HOSTPORT-SETMARK -j MARK --set-xmark 0x2000/0x2000
 *     POSTROUTING          -j CNI-HOSTPORT-MASQ
 *     CNI-HOSTPORT-MASQ    -m mark --mark 0x2000/0x2000 -j MASQUERADE
 *
 * and beyond the reference, in the table raw, what keeps ports of 127.0.0.1 from the outside. The name of CNI-DN-HASH
 * has no interface name in it, as in the reference. Every rule is a run of the program: 1,000 ports take seconds.
 */
import { createHash } from "node:crypto";
import { type Cidr, formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import type { PublishedPorts } from "#nftables/ports.ts";
import { ProgramError, type ProgramOptions, runProgram } from "#nftables/program.ts";

export interface IptablesPublisher {
  readonly network: string;
  readonly containerId: string;
  readonly published: readonly PublishedPorts[];
  /** The container's addresses that need the host's as source, with the prefix length of their subnet. */
  readonly hairpin: readonly Cidr[];
  readonly masqueradeAll: boolean;
  /** Options of iptables. */
  readonly conditions: Readonly<Record<4 | 6, readonly string[]>>;
  readonly markMasqBit: number;
  /** A chain of somebody else's that marks what is to be masqueraded, instead of ours. */
  readonly externalSetMarkChain?: string | undefined;
}

type Family = 4 | 6;
/** A rule without the `-A` or `-C` in front: the chain, then its matches and target. */
type Rule = readonly [chain: string, ...rest: readonly string[]];

const programs = { 4: "iptables", 6: "ip6tables" } as const;
const anywhere = { 4: "0.0.0.0/0", 6: "::/0" } as const;

const topChain = "CNI-HOSTPORT-DNAT";
const markChain = "CNI-HOSTPORT-SETMARK";
const masqueradeChain = "CNI-HOSTPORT-MASQ";

/** XT_MULTI_PORTS: include/uapi/linux/netfilter/xt_multiport.h; a range counts as two. */
const portsPerRule = 15;
/** XT_MAX_COMMENT_LEN without the terminating zero */
const maxCommentBytes = 255;
/** Seconds to wait for the lock that iptables-legacy takes. */
const lockSeconds = "10";

const loopbackGuard: Rule = ["PREROUTING", "-d", "127.0.0.0/8", "!", "-i", "lo", "-j", "DROP"];

/** The reference's utils.MustFormatChainNameWithPrefix: 28 characters, the most that iptables allows. */
export function publishingChain(network: string, containerId: string): string {
  const hash = createHash("sha512").update(`${network}${containerId}`).digest("hex");
  return `CNI-DN-${hash}`.slice(0, 28);
}

export class IptablesPorts {
  readonly #options: ProgramOptions;

  constructor(options: ProgramOptions = {}) {
    this.#options = options;
  }

  /** @throws {ProgramError} a program is not installed, or the kernel has no such table */
  async usable(): Promise<void> {
    for (const family of [4, 6] as const) await this.#run(family, "-S", "PREROUTING");
  }

  /** Makes the rules; those of an earlier ADD are replaced. @throws {ProgramError} */
  async add(publisher: IptablesPublisher): Promise<void> {
    for (const family of familiesOf(publisher)) {
      await this.#addShared(publisher, family);
      const chain = publishingChain(publisher.network, publisher.containerId);
      if (!(await this.#hasChain(family, chain))) await this.#run(family, "-N", chain);
      await this.#run(family, "-F", chain);
      for (const rule of ownRules(publisher, family)) await this.#run(family, "-A", ...rule);
      for (const rule of entryRules(publisher, family)) await this.#ensure(family, "-A", rule);
    }
  }

  /** The rules that are not there, in iptables' words; empty if all is well. @throws {ProgramError} */
  async missing(publisher: IptablesPublisher): Promise<readonly string[]> {
    const missing: string[] = [];
    for (const family of familiesOf(publisher)) {
      for (const rule of [...topRules(), ...entryRules(publisher, family), ...ownRules(publisher, family)]) {
        if (!(await this.#succeeds(family, "-C", ...rule))) {
          missing.push(`${programs[family]} -t nat -A ${rule.join(" ")}`);
        }
      }
    }
    return missing;
  }

  /** Removes what belongs to the container alone. What is not there is fine. @throws {ProgramError} */
  async remove(publisher: IptablesPublisher): Promise<void> {
    const chain = publishingChain(publisher.network, publisher.containerId);
    for (const family of [4, 6] as const) {
      if (!(await this.#hasChain(family, chain))) continue;
      for (const rule of entryRules(publisher, family)) {
        while (await this.#succeeds(family, "-C", ...rule)) await this.#run(family, "-D", ...rule);
      }
      await this.#run(family, "-F", chain);
      await this.#run(family, "-X", chain);
    }
  }

  async #addShared(publisher: IptablesPublisher, family: Family): Promise<void> {
    const { hairpin, externalSetMarkChain, markMasqBit } = publisher;
    if (hairpin.length > 0 && externalSetMarkChain === undefined) {
      const mark = `0x${(2 ** markMasqBit).toString(16)}/0x${(2 ** markMasqBit).toString(16)}`;
      await this.#ensureChain(family, markChain);
      await this.#ensure(family, "-A", [
        markChain,
        ...comment("CNI portfwd masquerade mark"),
        "-j",
        "MARK",
        "--set-xmark",
        mark,
      ]);
      await this.#ensureChain(family, masqueradeChain);
      await this.#ensure(family, "-A", [masqueradeChain, "-m", "mark", "--mark", mark, "-j", "MASQUERADE"]);
      // In front of what other plugins masquerade.
      await this.#ensure(family, "-I", [
        "POSTROUTING",
        ...comment("CNI portfwd requiring masquerade"),
        "-j",
        masqueradeChain,
      ]);
    }
    if (family === 4 && !(await this.#succeedsIn("raw", family, "-C", ...loopbackGuard))) {
      await this.#runIn("raw", family, "-A", ...loopbackGuard);
    }
    await this.#ensureChain(family, topChain);
    for (const rule of topRules()) await this.#ensure(family, "-A", rule);
  }

  async #ensureChain(family: Family, chain: string): Promise<void> {
    if (!(await this.#hasChain(family, chain))) await this.#run(family, "-N", chain);
  }

  async #hasChain(family: Family, chain: string): Promise<boolean> {
    return await this.#succeeds(family, "-S", chain);
  }

  async #ensure(family: Family, how: "-A" | "-I", rule: Rule): Promise<void> {
    if (!(await this.#succeeds(family, "-C", ...rule))) await this.#run(family, how, ...rule);
  }

  async #run(family: Family, ...args: readonly string[]): Promise<string> {
    return await this.#runIn("nat", family, ...args);
  }

  async #runIn(table: string, family: Family, ...args: readonly string[]): Promise<string> {
    return await runProgram(programs[family], ["-w", lockSeconds, "-t", table, ...args], this.#options);
  }

  async #succeeds(family: Family, ...args: readonly string[]): Promise<boolean> {
    return await this.#succeedsIn("nat", family, ...args);
  }

  /** False if the program said no, or is not there. */
  async #succeedsIn(table: string, family: Family, ...args: readonly string[]): Promise<boolean> {
    try {
      await this.#runIn(table, family, ...args);
      return true;
    } catch (error) {
      if (error instanceof ProgramError && (error.exitCode === 1 || error.exitCode === 2 || error.missing))
        return false;
      throw error;
    }
  }
}

function familiesOf({ published }: IptablesPublisher): readonly Family[] {
  return ([4, 6] as const).filter((family) => published.some(({ container }) => container.family === family));
}

function comment(text: string): readonly string[] {
  const cut = Buffer.from(text)
    .subarray(0, maxCommentBytes)
    .toString("utf8")
    .replace(/\ufffd+$/u, "");
  return ["-m", "comment", "--comment", cut];
}

function topRules(): readonly Rule[] {
  return ["PREROUTING", "OUTPUT"].map((hook) => [
    hook,
    "-m",
    "addrtype",
    "--dst-type",
    "LOCAL",
    "-j",
    topChain,
  ]);
}

function entryRules(publisher: IptablesPublisher, family: Family): readonly Rule[] {
  const { network, containerId, published, conditions } = publisher;
  const text = comment(`dnat name: ${JSON.stringify(network)} id: ${JSON.stringify(containerId)}`);
  const own = published.filter(({ container }) => container.family === family);
  return [...new Set(own.map(({ protocol }) => protocol))].flatMap((protocol) => {
    const lists: { count: number; ports: string[] }[] = [];
    for (const { hostPorts } of own.filter((each) => each.protocol === protocol)) {
      const { first, last } = hostPorts;
      const count = first === last ? 1 : 2;
      const list = lists.at(-1);
      const port = first === last ? String(first) : `${first}:${last}`;
      if (list && list.count + count <= portsPerRule) {
        list.count += count;
        list.ports.push(port);
      } else {
        lists.push({ count, ports: [port] });
      }
    }
    return lists.map(
      ({ ports }): Rule => [
        topChain,
        ...text,
        "-p",
        protocol,
        "-m",
        "multiport",
        "--destination-ports",
        ports.join(","),
        ...conditions[family],
        "-j",
        publishingChain(network, containerId),
      ],
    );
  });
}

function ownRules(publisher: IptablesPublisher, family: Family): readonly Rule[] {
  const { network, containerId, published, hairpin, masqueradeAll } = publisher;
  const chain = publishingChain(network, containerId);
  const mark = publisher.externalSetMarkChain ?? markChain;
  const subnet = hairpin.find(({ address }) => address.family === family);
  const sources = subnet
    ? masqueradeAll
      ? [anywhere[family]]
      : [formatCidr(subnet), ...(family === 4 ? ["127.0.0.1"] : [])]
    : [];
  return published
    .filter(({ container }) => container.family === family)
    .flatMap(({ protocol, hostIp, hostPorts: { first, last }, container, containerPort }) => {
      const to = hostIp ? ["-d", formatIp(hostIp)] : [];
      const address = family === 6 ? `[${formatIp(container)}]` : formatIp(container);
      const whole = containerPort === first;
      const pieces = whole
        ? [
            {
              port: first === last ? String(first) : `${first}:${last}`,
              target: first === last ? `:${first}` : "",
            },
          ]
        : Array.from({ length: last - first + 1 }, (_, n) => ({
            port: String(first + n),
            target: `:${containerPort + n}`,
          }));
      return pieces.flatMap(({ port, target }): readonly Rule[] => {
        const base = [chain, "-p", protocol, "--dport", port, ...to] as const;
        return [
          ...sources.map((source): Rule => [...base, "-s", source, "-j", mark]),
          [
            ...base,
            "-j",
            "DNAT",
            "--to-destination",
            target === "" ? formatIp(container) : `${address}${target}`,
          ],
        ];
      });
    });
}
