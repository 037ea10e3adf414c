import type { NamespaceRef } from "#cni/plugin.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { changeLinkSettings, readLinkSettings } from "#kernel/link-settings.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { writeSysctl } from "#kernel/sysctl.ts";
import { parseIfName } from "#net/ifname.ts";
import { openAttachmentNamespace } from "#plugins/attachment-namespace.ts";
import type { PluginHost } from "#plugins/context.ts";
import { leavesLink, linkDifferences } from "./attachment.ts";
import { decodeMade, type Made } from "./made.ts";

/** What could not be set back, and whether that matters to anybody but the container. */
interface Failure {
  readonly error: unknown;
  readonly outlivesContainer: boolean;
}

/**
 * Puts everything back as it was before, interface first, and goes on after a failure. An interface that is gone, or
 * is another one by now, is left alone.
 */
export function restore(namespace: NetworkNamespace, ifName: string, made: Made): readonly Failure[] {
  const failures: Failure[] = [];
  const link = leavesLink(made.link) ? undefined : readLinkSettings(namespace, parseIfName(ifName));
  if (link && (made.ifindex === undefined || link.ifindex === made.ifindex)) {
    try {
      const { changes } = linkDifferences(made.link, link);
      if (!leavesLink(changes)) changeLinkSettings(namespace, link.ifindex, changes);
    } catch (error) {
      failures.push({ error, outlivesContainer: link.kind === undefined });
    }
  }
  for (const { key, value } of made.sysctls) {
    try {
      writeSysctl(namespace, key, value);
    } catch (error) {
      failures.push({ error, outlivesContainer: false });
    }
  }
  return failures;
}

/**
 * Takes back what one attachment has changed, then its record. Only what is left on hardware, which goes on to be used
 * when the container is gone, is an error; all else is logged, since a DEL that fails keeps the plugins before from
 * theirs.
 * @param given CNI_NETNS
 * @param guess what was there before, where there is no record
 */
export function releaseAttachment(
  key: AttachmentKey,
  host: PluginHost,
  { given, guess }: { readonly given?: NamespaceRef | undefined; readonly guess?: Made | undefined } = {},
): void {
  const record = host.journal.read(key, "tuning");
  const made = record ? decodeMade(record) : guess;
  if (record?.phase === "done") host.journal.leave(key, "tuning");
  using namespace = made && openAttachmentNamespace(host, record, given);
  const failures = made && namespace ? restore(namespace, key.ifName, made) : [];
  for (const { error } of failures) {
    host.log.warn("could not set back what tuning had changed", { ...key, error: String(error) });
  }
  const grave = failures.filter(({ outlivesContainer }) => outlivesContainer).map(({ error }) => error);
  if (grave.length === 1) throw grave[0];
  if (record) host.journal.remove(key, "tuning");
}
