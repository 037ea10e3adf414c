import * as v from "valibot";
import { type CniArgs, selectCniArgs } from "#cni/cni-args.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, int, mac, parsedText } from "#cni/schema-values.ts";
import type { LinkSettings } from "#kernel/link-settings.ts";
import { isMulticastMac, isZeroMac, type MacAddress, parseMac } from "#net/mac.ts";
import { parseSysctlKey, type SysctlKey } from "./sysctl-key.ts";

export interface ConfiguredSysctl {
  readonly key: SysctlKey;
  readonly value: string;
}

/** The network configuration with every contradiction refused. What is undefined stays as it is. */
export interface TuningConfig {
  /** In the order of the configuration; no two have the same path. */
  readonly sysctls: readonly ConfiguredSysctl[];
  readonly link: LinkSettings;
}

const key = parsedText(parseSysctlKey);

const settings = {
  sysctl: v.optional(v.record(v.string(), v.string()), {}),
  mac: emptyAsAbsent(mac),
  promisc: v.optional(v.boolean()),
  mtu: v.optional(int({ min: 0 })),
  allmulti: v.optional(v.boolean()),
  txQLen: v.optional(int({ min: 0, max: 0xffffffff })),
};

/**
 * The fields of its configuration, for who looks for others. `dataDir` is where the reference keeps what was before; here
 * that is the journal.
 */
export const schema = goObject({ ...settings, dataDir: v.optional(v.string(), "") });
const argumentsSchema = goObject(settings);
const runtimeSchema = goObject({ mac: emptyAsAbsent(mac) });

/** Where the reference keeps its backups, if nothing else is configured. */
export const defaultDataDir = "/run/cni/tuning";

/**
 * Of a MAC address, `args.cni.mac` counts before `runtimeConfig.mac`, that before MAC of CNI_ARGS, that before `mac`; of
 * all else, `args.cni` before the configuration.
 * @param args CNI_ARGS
 * @throws {CniError} 7 with the field and its value; 4 for CNI_ARGS
 */
export function parseTuningConfig(network: NetworkConfig, args: CniArgs): TuningConfig {
  const base = parseConfig(schema, network.json, { what: "tuning configuration" });
  const over = parseConfig(argumentsSchema, network.cniArgs, { what: "args.cni" });
  const runtime = parseConfig(runtimeSchema, network.runtimeConfig, { what: "runtimeConfig" });
  const mac = over.mac ?? runtime.mac ?? parseMacArgument(args) ?? base.mac;
  if (mac !== undefined) refuseMac(mac);
  return {
    sysctls: mergeSysctls(parseSysctls(base.sysctl), parseSysctls(over.sysctl)),
    link: {
      mac,
      // The reference takes 0 for nothing said.
      mtu: over.mtu || base.mtu || undefined,
      // It is only ever switched on: false is the same as nothing said.
      promiscuous: (over.promisc ?? base.promisc) || undefined,
      allMulticast: over.allmulti ?? base.allmulti,
      txQueueLength: over.txQLen ?? base.txQLen,
    },
  };
}

/** Where the reference would have put its backup; also of a configuration that is otherwise malformed. */
export function backupDirectory(network: NetworkConfig): string {
  const parsed = v.safeParse(goObject({ dataDir: v.optional(v.string(), "") }), network.json);
  return (parsed.success && parsed.output.dataDir) || defaultDataDir;
}

function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use tuning configuration: ${problem}`);
}

function parseMacArgument(args: CniArgs): MacAddress | undefined {
  const { MAC: text } = selectCniArgs(args, ["MAC"]);
  if (!text) return undefined;
  try {
    return parseMac(text);
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new CniError(ErrorCode.InvalidEnvironment, `Cannot use CNI_ARGS: MAC: ${problem}`, { cause });
  }
}

function refuseMac(mac: MacAddress): void {
  if (isMulticastMac(mac)) {
    throw invalid(`"mac" ${JSON.stringify(mac)}: must be the address of one interface, not of a group`);
  }
  if (isZeroMac(mac)) throw invalid(`"mac" ${JSON.stringify(mac)}: must be an address, not zero`);
}

function parseSysctls(map: Readonly<Record<string, string>>): readonly ConfiguredSysctl[] {
  const byPath = new Map<string, ConfiguredSysctl>();
  for (const [text, value] of Object.entries(map)) {
    const parsed = v.safeParse(key, text);
    if (!parsed.success) throw invalid(parsed.issues[0].message);
    const before = byPath.get(parsed.output.path);
    if (before) {
      throw invalid(
        `duplicated sysctl keys are not allowed: ${JSON.stringify(before.key.text)} and ${JSON.stringify(text)}`,
      );
    }
    byPath.set(parsed.output.path, { key: parsed.output, value });
  }
  return [...byPath.values()];
}

function mergeSysctls(
  base: readonly ConfiguredSysctl[],
  over: readonly ConfiguredSysctl[],
): readonly ConfiguredSysctl[] {
  const replaced = new Set(over.map(({ key }) => key.path));
  return [...base.filter(({ key }) => !replaced.has(key.path)), ...over];
}
