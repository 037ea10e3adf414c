import { containsIp, parseCidr } from "#net/cidr.ts";
import type { IpAddress } from "#net/ip.ts";
import type { FirewallChain, FirewallRule, FirewallTable, Verdict } from "./firewall.ts";
import { all, any, not, type Packet, type Truth } from "./packet.ts";

/** Hooks of the built-in chains that packets to containers come through. */
const hooks: Readonly<Record<string, string>> = {
  PREROUTING: "prerouting",
  INPUT: "input",
  FORWARD: "forward",
};

/** NF_IP_PRI_*: include/uapi/linux/netfilter_ipv4.h */
const priorities: Readonly<Record<string, number>> = { raw: -300, mangle: -150, filter: 0, security: 50 };

/**
 * Tables that iptables-save or ip6tables-save prints. For those in which nft does not tell what a rule matches: all of
 * iptables-legacy, and matches of iptables-nft that nft has no word for.
 */
export function iptablesFirewalls(
  text: string,
  family: 4 | 6,
  backend: FirewallTable["backend"],
): readonly FirewallTable[] {
  const tables: FirewallTable[] = [];
  let name = "";
  let chains = new Map<string, FirewallChain & { rules: FirewallRule[] }>();
  for (const line of text.split("\n")) {
    if (line.startsWith("*")) {
      name = line.slice(1).trim();
      chains = new Map();
    } else if (line.startsWith(":")) {
      const [chain = "", policy = ""] = line.slice(1).split(" ");
      const hook = hooks[chain];
      const priority = priorities[name];
      const base =
        hook !== undefined && priority !== undefined && policy !== "-"
          ? { base: { hook, priority, policy: policy === "DROP" ? "drop" : "accept" } as const }
          : {};
      chains.set(chain, { name: chain, ...base, rules: [] });
    } else if (line.startsWith("-A ")) {
      const words = wordsOf(line.slice(3));
      chains.get(words[0] ?? "")?.rules.push(ruleOf(words.slice(1), family));
    } else if (line === "COMMIT") {
      tables.push({ backend, family: family === 4 ? "ip" : "ip6", name, chains });
    }
  }
  return tables;
}

/** Blanks separate words, but not within quotes, which iptables-save puts around comments. */
function wordsOf(line: string): readonly string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/gu)].map(([, quoted, plain]) => quoted ?? plain ?? "");
}

type Condition = (packet: Packet) => Truth;

function ruleOf(words: readonly string[], family: 4 | 6): FirewallRule {
  const conditions: Condition[] = [];
  let verdict: Verdict | undefined;
  let isNegated = false;
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? "";
    if (word === "!") {
      isNegated = true;
      continue;
    }
    const value = words[at + 1] ?? "";
    if (word === "-j" || word === "-g") {
      verdict = verdictOf(word, value);
      break;
    }
    if (word === "-m") at++;
    else if (word === "--comment") at++;
    else {
      const condition = conditionOf(word, value, family);
      if (condition) {
        at++;
        const negate = isNegated;
        conditions.push((packet) => (negate ? not(condition(packet)) : condition(packet)));
      } else {
        conditions.push(() => undefined);
        // Its values, whatever they are.
        while (at + 1 < words.length && !/^(?:-|!$)/u.test(words[at + 1] ?? "")) at++;
      }
    }
    isNegated = false;
  }
  return {
    text: words.join(" "),
    decide: (packet) =>
      verdict && { matches: all(conditions.map((condition) => condition(packet))), verdict },
  };
}

function verdictOf(word: string, target: string): Verdict | undefined {
  switch (target) {
    case "ACCEPT":
      return { kind: "accept" };
    case "DROP":
    case "REJECT":
      return { kind: "drop" };
    case "RETURN":
      return { kind: "return" };
    case "QUEUE":
    case "NFQUEUE":
      return { kind: "unknown" };
    case "LOG":
    case "NFLOG":
    case "MARK":
    case "CONNMARK":
    case "CT":
    case "TCPMSS":
    case "NOTRACK":
      return undefined;
    default:
      return { kind: word === "-g" ? "goto" : "jump", target };
  }
}

/** Undefined for a match that is not known here. */
function conditionOf(word: string, value: string, family: 4 | 6): Condition | undefined {
  switch (word) {
    case "-i":
      return ({ inInterface }) => isInterface(inInterface, value);
    case "-o":
      return ({ outInterface }) => isInterface(outInterface, value);
    case "-s":
      return ({ source }) => isIn(source, value, family);
    case "-d":
      return ({ destination }) => isIn(destination, value, family);
    case "-p":
      return ({ protocol }) => value === "all" || value === protocol;
    case "--dport":
    case "--dports":
      return ({ destinationPort }) => any(value.split(",").map((each) => isPort(destinationPort, each)));
    case "--state":
    case "--ctstate":
      return ({ state, isTranslated }) =>
        value.split(",").some((each) => each === state.toUpperCase() || (each === "DNAT" && isTranslated));
    case "--dst-type":
      return ({ isForHost }) => (value === "LOCAL" ? isForHost : value === "UNICAST" ? !isForHost : false);
    case "--mark":
      // Nought until somebody sets it.
      return () => /^(?:0x)?0+(?:\/|$)/u.test(value);
    default:
      return undefined;
  }
}

function isInterface(name: string | undefined, wanted: string): Truth {
  if (name === undefined) return wanted === "+" ? true : undefined;
  return wanted.endsWith("+") ? name.startsWith(wanted.slice(0, -1)) : name === wanted;
}

function isIn(address: IpAddress | undefined, wanted: string, family: 4 | 6): Truth {
  try {
    const cidr = parseCidr(wanted.includes("/") ? wanted : `${wanted}/${family === 4 ? 32 : 128}`);
    if (address === undefined) return cidr.prefixLength === 0 ? true : undefined;
    return containsIp(cidr, address);
  } catch {
    return undefined;
  }
}

function isPort(port: number | undefined, wanted: string): Truth {
  if (port === undefined) return undefined;
  const [first = "", last = first] = wanted.split(":");
  return Number(first) <= port && port <= Number(last);
}
