import type { NetworkList } from "#cni/conflist.ts";
import type { JsonObject } from "#cni/json.ts";
import { formatCidr, parseCidr } from "#net/cidr.ts";
import { ifNameProblem } from "#net/ifname.ts";
import { formatIp, parseIp } from "#net/ip.ts";
import { parseMac } from "#net/mac.ts";
import type { SandboxAttachment } from "#runtime/sandbox-record.ts";
import { UsageFailure } from "./failure.ts";

/** `--network NAME[:key=value,…]`, understood. */
export interface NetworkChoice {
  readonly network: string;
  /** An address, with or without its prefix length. */
  readonly ips: readonly string[];
  readonly mac?: string;
  readonly interfaceName?: string;
}

/**
 * Reads one `--network`. Keys: `ip` (may be repeated), `mac`, `interface_name`, as Podman has them.
 * @throws {UsageFailure}
 */
export function parseNetworkChoice(text: string): NetworkChoice {
  const colon = text.indexOf(":");
  const network = colon < 0 ? text : text.slice(0, colon);
  if (network === "")
    throw new UsageFailure(
      `Cannot use --network ${text}: expected NAME[:ip=ADDRESS,mac=MAC,interface_name=NAME]`,
    );
  const ips: string[] = [];
  let mac: string | undefined;
  let interfaceName: string | undefined;
  for (const setting of colon < 0 ? [] : text.slice(colon + 1).split(",")) {
    const equals = setting.indexOf("=");
    const [key, value] = [setting.slice(0, Math.max(equals, 0)), setting.slice(equals + 1)];
    if (key === "ip" || key === "ip6") ips.push(parseAddress(value, `--network ${text}`));
    else if (key === "mac") mac = parseMacFlag(value, `--network ${text}`);
    else if (key === "interface_name") interfaceName = parseInterfaceName(value, text);
    else
      throw new UsageFailure(
        `Cannot use --network ${text}: ${JSON.stringify(setting)} is none of ip=, mac= and interface_name=`,
      );
  }
  return {
    network,
    ips,
    ...(mac === undefined ? {} : { mac }),
    ...(interfaceName === undefined ? {} : { interfaceName }),
  };
}

/** An address for a flag: `10.1.0.9` or `10.1.0.9/24`. @throws {UsageFailure} */
export function parseAddress(text: string, flag: string): string {
  return parsed(flag, () => (text.includes("/") ? formatCidr(parseCidr(text)) : formatIp(parseIp(text))));
}

/** @throws {UsageFailure} */
export function parseMacFlag(text: string, flag: string): string {
  return parsed(flag, () => parseMac(text));
}

/**
 * What the sandbox asks of a network: by the capabilities that its plugins declare, else by CNI_ARGS, as runtimes
 * did before there were any.
 * @param index of the network in the sandbox: eth0 is the first
 */
export function attachmentFor(choice: NetworkChoice, list: NetworkList, index: number): SandboxAttachment {
  const declared = new Set(list.plugins.flatMap(({ capabilities }) => capabilities));
  const args: [string, string][] = [];
  const capabilityArgs: Record<string, JsonObject[string]> = {};
  if (choice.ips.length > 0) {
    if (declared.has("ips")) capabilityArgs["ips"] = choice.ips;
    else args.push(...choice.ips.map((ip): [string, string] => ["IP", ip]));
  }
  if (choice.mac !== undefined) {
    if (declared.has("mac")) capabilityArgs["mac"] = choice.mac;
    else args.push(["MAC", choice.mac]);
  }
  return {
    network: list.name,
    ifName: choice.interfaceName ?? `eth${index}`,
    // Plugins that do not know an argument refuse it without this.
    args: args.length === 0 ? [] : [["IgnoreUnknown", "1"], ...args],
    capabilityArgs,
  };
}

function parseInterfaceName(value: string, text: string): string {
  const problem = ifNameProblem(value);
  if (problem !== undefined) throw new UsageFailure(`Cannot use --network ${text}: ${problem.message}`);
  return value;
}

function parsed<Value>(flag: string, parse: () => Value): Value {
  try {
    return parse();
  } catch (error) {
    throw new UsageFailure(`Cannot use ${flag}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
