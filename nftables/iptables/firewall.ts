/**
 * The plugin firewall in the shape of the reference's iptables backend, for configurations that insist on it. In the
 * table filter of iptables and ip6tables:
 *
 *     FORWARD                -j CNI-ISOLATION-STAGE-1                          (with an ingress policy; first of all)
 *     FORWARD                -j CNI-FORWARD
 *     CNI-FORWARD            -j CNI-ADMIN                                      (the operator's; first)
 *     CNI-FORWARD            -d ADDRESS -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
 *     CNI-FORWARD            -s ADDRESS -j ACCEPT
 *     CNI-ISOLATION-STAGE-1  -i BRIDGE -o BRIDGE -j DROP                       (isolated)
 *     CNI-ISOLATION-STAGE-1  -i BRIDGE ! -o BRIDGE -j CNI-ISOLATION-STAGE-2
 *     CNI-ISOLATION-STAGE-1  -j RETURN
 *     CNI-ISOLATION-STAGE-2  -o BRIDGE -j DROP
 *     CNI-ISOLATION-STAGE-2  -j RETURN
 *
 * and, beyond the reference, with the owner in the comment of each rule for an address: else one container's DEL would
 * take away what another has that got the address meanwhile.
 */
import { formatCidr, hostCidr } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import type { IpAddress } from "#net/ip.ts";
import type { IngressPolicy } from "#nftables/ingress-policy.ts";
import type { OwnerTag } from "#nftables/owner.ts";
import { ProgramError, type ProgramOptions, runProgram } from "#nftables/program.ts";

export interface IptablesAdmission {
  readonly addresses: readonly IpAddress[];
  readonly owner: OwnerTag;
  /** Chain that is asked first. */
  readonly adminChain: string;
}

export interface IptablesIngress {
  readonly device: IfName;
  readonly policy: IngressPolicy;
}

type Family = 4 | 6;
/** A rule without the `-A` or `-C` in front: the chain, then its matches and target. */
type Rule = readonly [chain: string, ...rest: readonly string[]];

const families = [4, 6] as const;
const programs = { 4: "iptables", 6: "ip6tables" } as const;
const forwardChain = "CNI-FORWARD";
const stages = ["CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2"] as const;

/** Seconds to wait for the lock that iptables-legacy takes. */
const lockSeconds = "10";

function comment(text: string): readonly string[] {
  return ["-m", "comment", "--comment", text];
}

const fromForward: Rule = ["FORWARD", ...comment("CNI firewall plugin rules"), "-j", forwardChain];
const toAdmin = (chain: string): Rule => [
  forwardChain,
  ...comment("CNI firewall plugin admin overrides"),
  "-j",
  chain,
];
const fromForwardToStages: Rule = ["FORWARD", ...comment("CNI firewall plugin rules"), "-j", stages[0]];

function admissionRules({ addresses, owner }: IptablesAdmission, family: Family): readonly Rule[] {
  return addresses
    .filter((address) => address.family === family)
    .flatMap((address): readonly Rule[] => {
      const cidr = formatCidr(hostCidr(address));
      const answers = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"];
      return [
        [forwardChain, "-d", cidr, ...answers, ...comment(owner), "-j", "ACCEPT"],
        [forwardChain, "-s", cidr, ...comment(owner), "-j", "ACCEPT"],
      ];
    });
}

function withinBridge(device: IfName): Rule {
  return [stages[0], "-i", device, "-o", device, "-j", "DROP"];
}

/** In the order in which they have to stand, before the RETURN. */
function ingressRules({ device, policy }: IptablesIngress): readonly Rule[] {
  return [
    ...(policy === "isolated" ? [withinBridge(device)] : []),
    [stages[0], "-i", device, "!", "-o", device, "-j", stages[1]],
    [stages[1], "-o", device, "-j", "DROP"],
  ];
}

export class IptablesFirewall {
  readonly #options: ProgramOptions;

  constructor(options: ProgramOptions = {}) {
    this.#options = options;
  }

  /** @throws {ProgramError} a program is not installed, or the kernel has no such table */
  async usable(): Promise<void> {
    await this.#run(4, "-S", "FORWARD");
  }

  /** Makes the rules that are missing. @throws {ProgramError} */
  async admit(admission: IptablesAdmission): Promise<void> {
    for (const family of families) {
      const rules = admissionRules(admission, family);
      if (rules.length === 0) continue;
      await this.#ensureChain(family, forwardChain);
      await this.#ensureChain(family, admission.adminChain);
      await this.#ensure(family, "-I", fromForward);
      await this.#ensure(family, "-I", toAdmin(admission.adminChain));
      for (const rule of rules) await this.#ensure(family, "-A", rule);
    }
  }

  /** The same for a bridge, in both families; the other policy's rules go. @throws {ProgramError} */
  async restrict(ingress: IptablesIngress): Promise<void> {
    for (const family of families) {
      for (const chain of stages) {
        await this.#ensureChain(family, chain);
        await this.#ensure(family, "-A", [chain, "-j", "RETURN"]);
      }
      for (const rule of [...ingressRules(ingress)].reverse()) await this.#ensure(family, "-I", rule);
      if (ingress.policy !== "isolated") {
        await this.#delete(family, withinBridge(ingress.device));
      }
      await this.#ensure(family, "-I", fromForwardToStages);
    }
  }

  /** The rules that are not there, in iptables' words; empty if all is well. @throws {ProgramError} */
  async missing(
    admission: IptablesAdmission,
    ingress: IptablesIngress | undefined,
  ): Promise<readonly string[]> {
    const missing: string[] = [];
    for (const family of families) {
      const own = admissionRules(admission, family);
      const rules = [
        ...(own.length === 0 ? [] : [fromForward, toAdmin(admission.adminChain), ...own]),
        ...(ingress ? [fromForwardToStages, ...ingressRules(ingress)] : []),
      ];
      for (const rule of rules) {
        if (!(await this.#succeeds(family, "-C", ...rule))) {
          missing.push(`${programs[family]} -t filter -A ${rule.join(" ")}`);
        }
      }
    }
    return missing;
  }

  /** Takes an attachment's rules away; the chains stay, as other programs may know them. @throws {ProgramError} */
  async dismiss(admission: IptablesAdmission): Promise<void> {
    for (const family of families) {
      for (const rule of admissionRules(admission, family)) await this.#delete(family, rule);
    }
  }

  /** The same for a bridge that nobody is behind any more. @throws {ProgramError} */
  async release(device: IfName): Promise<void> {
    for (const family of families) {
      for (const rule of ingressRules({ device, policy: "isolated" })) await this.#delete(family, rule);
    }
  }

  async #ensureChain(family: Family, chain: string): Promise<void> {
    if (await this.#succeeds(family, "-S", chain)) return;
    try {
      await this.#run(family, "-N", chain);
    } catch (error) {
      // Another ADD was faster.
      if (!(await this.#succeeds(family, "-S", chain))) throw error;
    }
  }

  async #ensure(family: Family, how: "-A" | "-I", rule: Rule): Promise<void> {
    if (!(await this.#succeeds(family, "-C", ...rule))) await this.#run(family, how, ...rule);
  }

  /** As often as it is there; it may be gone by the time that it is deleted. */
  async #delete(family: Family, rule: Rule): Promise<void> {
    while (await this.#succeeds(family, "-C", ...rule)) {
      if (!(await this.#succeeds(family, "-D", ...rule))) return;
    }
  }

  async #run(family: Family, ...args: readonly string[]): Promise<string> {
    return await runProgram(programs[family], ["-w", lockSeconds, "-t", "filter", ...args], this.#options);
  }

  /** False if the program said no, or is not there. 2 is for a chain that is missing. */
  async #succeeds(family: Family, ...args: readonly string[]): Promise<boolean> {
    try {
      await this.#run(family, ...args);
      return true;
    } catch (error) {
      if (!(error instanceof ProgramError)) throw error;
      if (error.exitCode === 1 || error.exitCode === 2 || error.missing) return false;
      throw error;
    }
  }
}
