import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import type { AttachmentKey, JournalRecord } from "#journal/record.ts";
import {
  changeLinkSettings,
  type LinkSettings,
  readLinkSettings,
  type TunableLink,
} from "#kernel/link-settings.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readSysctl, SysctlError, type SysctlSetting, writeSysctls } from "#kernel/sysctl.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { keyOf, recordedWork, refuseMissing, requirePrevResult } from "#plugins/recorded-work.ts";
import { allowlistPath, refuseForbiddenKeys } from "./allowlist.ts";
import {
  type Attachment,
  describeAttachment,
  leavesLink,
  linkDifferences,
  refuseMtu,
  updatedResult,
} from "./attachment.ts";
import { parseTuningConfig } from "./config.ts";
import { decodeMade, encodeMade, type Made, mergeMade } from "./made.ts";
import { restore } from "./restore.ts";
import { equalSysctlValues } from "./sysctl-key.ts";

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseTuningConfig(request.config, request.args);
  const prevResult = requirePrevResult(request, "tuning", "Required prevResult missing");
  refuseForbiddenKeys(
    config.sysctls.map(({ key }) => key),
    allowlistPath(host.directories),
  );
  const attachment = describeAttachment(config, request.ifName);
  using namespace = host.kernel.open(request.netns);
  const change = planChange(attachment, namespace);
  const key = keyOf(request);
  const record = host.journal.read(key, "tuning");
  const prior = priorMade(record, request, host);
  const isDone = !change.isNeeded && (!record || (prior !== undefined && record.phase === "done"));
  if (!isDone) {
    if (record) host.journal.remove(key, "tuning");
    if (change.isNeeded || prior) await apply(change, prior, { key, request, prevResult, namespace, host });
  }
  return updatedResult(prevResult, attachment);
}

/** What one ADD has to do, given what is there. */
interface Change {
  readonly isNeeded: boolean;
  readonly link: { readonly ifindex: number; readonly changes: LinkSettings } | undefined;
  readonly sysctls: readonly SysctlSetting[];
  readonly before: Made;
}

/** @throws {CniError} 7 for what this kernel or this interface can't be given; 4 without the interface */
function planChange(attachment: Attachment, namespace: NetworkNamespace): Change {
  const sysctls: SysctlSetting[] = [];
  const sysctlsBefore: SysctlSetting[] = [];
  for (const { key, value, text } of attachment.sysctls) {
    const before = readPresent(namespace, key, text);
    if (before !== undefined && equalSysctlValues(value, before)) continue;
    sysctls.push({ key, value });
    if (before !== undefined) sysctlsBefore.push({ key, value: before });
  }
  const link = leavesLink(attachment.link) ? undefined : requireInterface(namespace, attachment.ifName);
  if (link) refuseMtu(attachment.link, link);
  const { changes, before } = link ? linkDifferences(attachment.link, link) : { changes: {}, before: {} };
  return {
    isNeeded: sysctls.length > 0 || !leavesLink(changes),
    link: link && !leavesLink(changes) ? { ifindex: link.ifindex, changes } : undefined,
    sysctls,
    before: { ...(link ? { ifindex: link.ifindex } : {}), link: before, sysctls: sysctlsBefore },
  };
}

/** @returns undefined for one that can only be written, as net.ipv4.route.flush */
function readPresent(namespace: NetworkNamespace, key: string, text: string): string | undefined {
  try {
    const value = readSysctl(namespace, key);
    if (value !== undefined) return value;
  } catch (error) {
    if (error instanceof SysctlError && (error.code === "EACCES" || error.code === "EPERM")) return undefined;
    throw error;
  }
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    `Cannot use tuning configuration: "sysctl" ${JSON.stringify(text)}: there is no /proc/sys/${key} in the container`,
  );
}

function requireInterface(namespace: NetworkNamespace, ifName: string): TunableLink {
  return readLinkSettings(namespace, parseIfName(ifName)) ?? refuseMissing(namespace, ifName);
}

/**
 * What an earlier ADD found, in the same namespace: one that was killed, or was not followed by a DEL, or that of the
 * same plugin before this one in the list. How things were before the first is what a DEL has to restore.
 */
function priorMade(
  record: JournalRecord | undefined,
  { netns }: AddRequest,
  host: PluginHost,
): Made | undefined {
  if (!record || record.phase === "torn" || record.bootId !== host.bootId) return undefined;
  const isSame = record.netns?.dev === netns.dev && record.netns.ino === netns.ino;
  return isSame ? decodeMade(record) : undefined;
}

interface Work {
  readonly key: AttachmentKey;
  readonly request: AddRequest;
  readonly prevResult: CniResult;
  readonly namespace: NetworkNamespace;
  readonly host: PluginHost;
}

async function apply(change: Change, prior: Made | undefined, work: Work): Promise<void> {
  const { key, request, prevResult, namespace, host } = work;
  const before = prior ? mergeMade(prior, change.before, key.ifName) : change.before;
  const intent = { plugin: "tuning", made: encodeMade(before), result: prevResult };
  await recordedWork(request, host, intent, (undo) => {
    undo.push("settings", () => {
      const [failure] = restore(namespace, key.ifName, before);
      if (failure) throw failure.error;
    });
    writeConfigured(namespace, change.sysctls);
    crashPoint("tuning-sysctls-set");
    if (change.link) changeLinkSettings(namespace, change.link.ifindex, change.link.changes);
    crashPoint("tuning-link-set");
  });
}

/** @throws {CniError} 7 for a value that the kernel does not take */
function writeConfigured(namespace: NetworkNamespace, sysctls: readonly SysctlSetting[]): void {
  try {
    writeSysctls(namespace, sysctls);
  } catch (error) {
    if (!(error instanceof SysctlError) || !["EINVAL", "ERANGE"].includes(error.code)) throw error;
    throw new CniError(ErrorCode.InvalidNetworkConfig, error.message, { cause: error });
  }
}
