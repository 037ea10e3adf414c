import { join } from "node:path";
import type { JsonObject } from "#cni/json.ts";
import type { Environment } from "#cni/plugin.ts";
import type { IntactRecord, JournalRecord } from "#journal/record.ts";
import { libDirectory } from "#native/lib-directory.ts";
import type { PluginHost } from "#plugins/context.ts";
import { loadPlugin } from "./plugins.ts";
import { runPlugin } from "./run-plugin.ts";

export interface Recovery {
  /** Attachments that were cleaned away. */
  readonly cleaned: readonly JournalRecord[];
  /** Those that could not be; their records stay for the next DEL, GC or start. */
  readonly failed: readonly { readonly record: JournalRecord; readonly reason: string }[];
}

/**
 * Cleans away what crashed or rebooted writers left: ADDs that will never end, and attachments of another boot,
 * whose namespaces are gone while their addresses are still reserved. Each is a DEL made from its record.
 */
export async function recover(host: PluginHost): Promise<Recovery> {
  const cleaned: JournalRecord[] = [];
  const failed: { record: JournalRecord; reason: string }[] = [];
  const unfinished = host.journal.unfinished();
  const earlier = host.journal
    .list()
    .filter((record): record is IntactRecord => record.phase === "done" && record.bootId !== host.bootId);
  for (const record of [...unfinished, ...earlier]) {
    const plugin = await loadPlugin(record.plugin);
    if (!plugin) {
      failed.push({ record, reason: `no plugin "${record.plugin}"` });
      continue;
    }
    const config: JsonObject = record.phase === "torn" ? minimalConfig(record) : record.config;
    const call = { environment: delEnvironment(record, host), stdin: JSON.stringify(config) };
    let isStale = true;
    const isWanted = () => (isStale = isUnchanged(record, host));
    const outcome = await runPlugin(plugin, call, host, { isWanted });
    if (!isStale) continue;
    if (outcome.exitCode === 0) cleaned.push(record);
    else failed.push({ record, reason: outcome.stdout });
  }
  return { cleaned, failed };
}

/** Asked with the attachment's lock held: a process may have removed or replaced it, or finished writing it. */
function isUnchanged(record: JournalRecord, host: PluginHost): boolean {
  const present = host.journal.read(record.key, record.plugin);
  if (record.phase === "torn" || present === undefined || present.phase === "torn") {
    return present?.phase === record.phase;
  }
  return (
    present.phase === record.phase &&
    present.bootId === record.bootId &&
    present.createdAtMs === record.createdAtMs &&
    present.writer.pid === record.writer.pid &&
    present.writer.startTicks === record.writer.startTicks
  );
}

/** For a record that was never written whole, so that nothing was made after it. */
function minimalConfig(record: JournalRecord): JsonObject {
  return { cniVersion: "1.1.0", name: record.key.network, type: record.plugin };
}

function delEnvironment(record: JournalRecord, host: PluginHost): Environment {
  const { containerId, ifName } = record.key;
  return {
    CNI_COMMAND: "DEL",
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: ifName,
    CNI_NETNS: record.phase === "torn" ? "" : namespaceOf(record, host),
    CNI_ARGS: record.phase === "torn" ? "" : record.args.map(([key, value]) => `${key}=${value}`).join(";"),
    CNI_PATH: [host.directories.bin, join(libDirectory(), "../bin")].join(":"),
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  };
}

/** Its path, unless another namespace is there by now. */
function namespaceOf(record: IntactRecord, host: PluginHost): string {
  const { netns } = record;
  if (!netns || record.bootId !== host.bootId) return "";
  const present = host.identifyNamespace(netns.path);
  const isSame = typeof present === "object" && present.dev === netns.dev && present.ino === netns.ino;
  return isSame ? netns.path : "";
}
