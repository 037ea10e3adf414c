import { formatIp, parseIp } from "#net/ip.ts";
import { UsageFailure } from "#netctl/failure.ts";
import type { SandboxSettings } from "#runtime/sandbox-settings.ts";

/** Flags of `docker run` that are about the network, as they were typed. */
export interface SettingsFlags {
  readonly hostname?: string;
  readonly dns: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly dnsOption: readonly string[];
  readonly addHost: readonly string[];
  readonly sysctl: readonly string[];
  readonly label: readonly string[];
}

/** @throws {UsageFailure} naming flag and value */
export function parseSandboxSettings(flags: SettingsFlags): SandboxSettings {
  const { hostname } = flags;
  if (hostname !== undefined && !isHostName(hostname)) {
    throw new UsageFailure(`Cannot use --hostname ${hostname}: it is no name of a host`);
  }
  return {
    ...(hostname === undefined ? {} : { hostname }),
    dns: {
      servers: flags.dns.map((text) => parseServer(text)),
      search: flags.dnsSearch.map(parseSearch),
      options: flags.dnsOption.map((text) => requireWord(text, "--dns-option")),
    },
    extraHosts: flags.addHost.map(parseExtraHost),
    sysctls: Object.fromEntries(flags.sysctl.map(parseSysctl)),
    labels: Object.fromEntries(flags.label.map(parseLabel)),
  };
}

/** RFC 1123 section 2.1, and HOST_NAME_MAX of Linux. */
function isHostName(text: string): boolean {
  return (
    text.length <= 64 && text.split(".").every((label) => /^[a-zA-Z0-9]([\w-]*[a-zA-Z0-9])?$/.test(label))
  );
}

function parseServer(text: string): string {
  try {
    return formatIp(parseIp(text));
  } catch (error) {
    throw new UsageFailure(
      `Cannot use --dns ${text}: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  }
}

function parseSearch(text: string): string {
  if (text === "." || (/^[\w.-]+$/.test(text) && text.length <= 253)) return text;
  throw new UsageFailure(`Cannot use --dns-search ${text}: it is no domain`);
}

function requireWord(text: string, flag: string): string {
  if (/^\S+$/.test(text)) return text;
  throw new UsageFailure(`Cannot use ${flag} ${JSON.stringify(text)}: expected one word`);
}

/** `NAME:ADDRESS`, or `NAME=ADDRESS`; an IPv6 address may stand in brackets. */
export function parseExtraHost(text: string): { readonly name: string; readonly address: string } {
  const fail = (why: string) => new UsageFailure(`Cannot use --add-host ${text}: ${why}`);
  const [, name = "", given = ""] = /^([^:=]+)[:=](.+)$/.exec(text) ?? [];
  if (name === "") throw fail("expected NAME:ADDRESS");
  if (!/^[\w.-]+$/.test(name)) throw fail(`"${name}" is no name of a host`);
  if (given === "host-gateway") return { name, address: given };
  try {
    return { name, address: formatIp(parseIp(given.replace(/^\[(.*)\]$/, "$1"))) };
  } catch {
    throw fail(`"${given}" is no IP address`);
  }
}

/** Docker's rule: what is of the network namespace alone. Keys with dots, or with slashes where names have dots. */
export function parseSysctl(text: string): readonly [key: string, value: string] {
  const [, key = "", value = ""] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
  if (key === "") throw new UsageFailure(`Cannot use --sysctl ${text}: expected KEY=VALUE`);
  const path = key.includes("/") ? key : key.replaceAll(".", "/");
  if (!/^net\/[\w./-]+$/.test(path) || path.split("/").includes("..")) {
    throw new UsageFailure(`Cannot use --sysctl ${text}: only net.* is of a sandbox alone`);
  }
  return [path, value];
}

function parseLabel(text: string): readonly [key: string, value: string] {
  const [, key, value = ""] = /^([^=]+)(?:=(.*))?$/s.exec(text) ?? [];
  if (key === undefined)
    throw new UsageFailure(`Cannot use --label ${JSON.stringify(text)}: expected KEY=VALUE`);
  return [key, value];
}
