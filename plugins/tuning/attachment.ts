import { CniError, ErrorCode } from "#cni/error.ts";
import type { CniResult } from "#cni/result.ts";
import type { LinkSettings, TunableLink } from "#kernel/link-settings.ts";
import type { SysctlSetting } from "#kernel/sysctl.ts";
import type { TuningConfig } from "./config.ts";
import { sysctlPath } from "./sysctl-key.ts";

interface WantedSysctl extends SysctlSetting {
  /** As the configuration has it, for messages. */
  readonly text: string;
  readonly value: string;
}

/** The desired state of one attachment's interface and namespace. What is not named stays as it is. */
export interface Attachment {
  readonly ifName: string;
  readonly sysctls: readonly WantedSysctl[];
  readonly link: LinkSettings;
}

/** @throws {CniError} 7 for two keys that are one with this interface's name */
export function describeAttachment(config: TuningConfig, ifName: string): Attachment {
  const byPath = new Map<string, WantedSysctl>();
  for (const { key, value } of config.sysctls) {
    const path = sysctlPath(key, ifName);
    const before = byPath.get(path);
    if (before) {
      throw new CniError(
        ErrorCode.InvalidNetworkConfig,
        `Cannot use tuning configuration: duplicated sysctl keys are not allowed: ${JSON.stringify(before.text)} and ${JSON.stringify(key.text)} are the same of ${ifName}`,
      );
    }
    byPath.set(path, { key: path, value, text: key.text });
  }
  return { ifName, sysctls: [...byPath.values()], link: config.link };
}

export const linkFields = ["mac", "mtu", "promiscuous", "allMulticast", "txQueueLength"] as const;

/** The names that configurations have for them. */
export const fieldNames: Readonly<Record<(typeof linkFields)[number], string>> = {
  mac: "mac",
  mtu: "mtu",
  promiscuous: "promisc",
  allMulticast: "allmulti",
  txQueueLength: "txQLen",
};

/** True where nothing of the interface itself is to be set, so that there need not be one. */
export function leavesLink(link: LinkSettings): boolean {
  return linkFields.every((field) => link[field] === undefined);
}

/** What of `wanted` is otherwise at present, and how it is there. */
export function linkDifferences(
  wanted: LinkSettings,
  present: TunableLink,
): { readonly changes: LinkSettings; readonly before: LinkSettings } {
  const fields = linkFields.filter(
    (field) => wanted[field] !== undefined && wanted[field] !== present[field],
  );
  const pick = (from: LinkSettings) => Object.fromEntries(fields.map((field) => [field, from[field]]));
  return { changes: pick(wanted), before: pick(present) };
}

/** @throws {CniError} 7 for an MTU that the interface's driver does not take */
export function refuseMtu(
  wanted: LinkSettings,
  { name, minMtu = 0, maxMtu = 0xffffffff }: TunableLink,
): void {
  const { mtu } = wanted;
  if (mtu === undefined || (mtu >= minMtu && mtu <= maxMtu)) return;
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    `Cannot use tuning configuration: "mtu" ${mtu}: interface ${JSON.stringify(name)} takes ${minMtu} to ${maxMtu}`,
  );
}

/** The result of the plugins before, with what is otherwise now. */
export function updatedResult(prevResult: CniResult, { ifName, link }: Attachment): CniResult {
  const { mac, mtu } = link;
  if (mac === undefined && mtu === undefined) return prevResult;
  return {
    ...prevResult,
    interfaces: prevResult.interfaces.map((each) =>
      each.name === ifName && each.sandbox
        ? { ...each, ...(mac === undefined ? {} : { mac }), ...(mtu === undefined ? {} : { mtu }) }
        : each,
    ),
  };
}
