import type { NetworkList } from "#cni/conflist.ts";
import type { JsonObject } from "#cni/json.ts";
import { formatCidr, parseCidr } from "#net/cidr.ts";
import { ifNameProblem } from "#net/ifname.ts";
import { formatIp, parseIp } from "#net/ip.ts";
import { parseMac } from "#net/mac.ts";
import { UsageFailure } from "#netctl/failure.ts";
import type { SandboxAttachment } from "#runtime/sandbox-record.ts";

/** `--network NAME[:key=value,…]`, understood. */
export interface NetworkChoice {
  readonly network: string;
  /** An address, with or without its prefix length. */
  readonly ips: readonly string[];
  /** Names by which the other containers of the network find it. */
  readonly aliases: readonly string[];
  readonly mac?: string;
  readonly interfaceName?: string;
  /** 0 where nothing was said. */
  readonly gatewayPriority: number;
}

const keys = "ip=, ip6=, mac=, alias=, interface_name= and gw-priority=";

/**
 * Reads one `--network`: Podman's `NAME:ip=…,mac=…,interface_name=…,alias=…`, or Docker's
 * `name=NAME,ip=…,ip6=…,mac-address=…,alias=…,gw-priority=…,driver-opt=com.docker.network.endpoint.ifname=…`.
 * @throws {UsageFailure}
 */
export function parseNetworkChoice(text: string): NetworkChoice {
  const [, name, list] = /^([^:=,]*)(?::(.*))?$/s.exec(text) ?? [];
  const settings = (name === undefined ? text : (list ?? "")).split(",").filter((each) => each !== "");
  const flag = `--network ${text}`;
  let choice: NetworkChoice = { network: name ?? "", ips: [], aliases: [], gatewayPriority: 0 };
  for (const setting of settings) choice = withSetting(choice, setting, flag, name === undefined);
  if (choice.network === "")
    throw new UsageFailure(`Cannot use ${flag}: expected NAME[:ip=ADDRESS,mac=MAC,alias=NAME]`);
  return choice;
}

function withSetting(choice: NetworkChoice, setting: string, flag: string, mayName: boolean): NetworkChoice {
  const equals = setting.indexOf("=");
  const [key, value] = [setting.slice(0, Math.max(equals, 0)), setting.slice(equals + 1)];
  switch (key) {
    case "name":
      if (mayName) return { ...choice, network: value };
      break;
    case "ip":
    case "ip6":
      return { ...choice, ips: [...choice.ips, parseAddress(value, flag)] };
    case "mac":
    case "mac-address":
      return { ...choice, mac: parseMacFlag(value, flag) };
    case "alias":
      return { ...choice, aliases: [...choice.aliases, parseAlias(value, flag)] };
    case "interface_name":
      return { ...choice, interfaceName: parseInterfaceName(value, flag) };
    case "gw-priority":
      return { ...choice, gatewayPriority: parsePriority(value, flag) };
    case "driver-opt": {
      const [, name] = /^com\.docker\.network\.endpoint\.ifname=(.*)$/s.exec(value) ?? [];
      if (name !== undefined) return { ...choice, interfaceName: parseInterfaceName(name, flag) };
      break;
    }
  }
  throw new UsageFailure(`Cannot use ${flag}: ${JSON.stringify(setting)} is none of ${keys}`);
}

/** An address for a flag: `10.1.0.9` or `10.1.0.9/24`. @throws {UsageFailure} */
export function parseAddress(text: string, flag: string): string {
  return parsed(flag, () => (text.includes("/") ? formatCidr(parseCidr(text)) : formatIp(parseIp(text))));
}

/** @throws {UsageFailure} */
export function parseMacFlag(text: string, flag: string): string {
  return parsed(flag, () => parseMac(text));
}

/** A name that can be asked for: RFC 1123 section 2.1, and the underscores that people use. @throws {UsageFailure} */
export function parseAlias(text: string, flag: string): string {
  const isName = text.length <= 253 && /^[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_])?$/.test(text);
  if (isName) return text;
  throw new UsageFailure(`Cannot use ${flag}: alias ${JSON.stringify(text)} is no name of a host`);
}

/** As Docker's `--gw-priority`: negative ones are less than none. @throws {UsageFailure} */
export function parsePriority(text: string, flag: string): number {
  const value = /^[-+]?\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isNaN(value)) return value;
  throw new UsageFailure(`Cannot use ${flag}: gateway priority ${JSON.stringify(text)} is no integer`);
}

/**
 * What the sandbox asks of a network: by the capabilities that its plugins declare, else by CNI_ARGS, as runtimes
 * did before there were any.
 * @param ifName unless the choice has one
 */
export function attachmentFor(choice: NetworkChoice, list: NetworkList, ifName: string): SandboxAttachment {
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
  if (choice.aliases.length > 0) capabilityArgs["aliases"] = choice.aliases;
  return {
    network: list.name,
    ifName: choice.interfaceName ?? ifName,
    // Plugins that do not know an argument refuse it without this.
    args: args.length === 0 ? [] : [["IgnoreUnknown", "1"], ...args],
    capabilityArgs,
    gatewayPriority: choice.gatewayPriority,
  };
}

function parseInterfaceName(value: string, flag: string): string {
  const problem = ifNameProblem(value);
  if (problem !== undefined) throw new UsageFailure(`Cannot use ${flag}: ${problem.message}`);
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
