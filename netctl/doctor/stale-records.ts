import type { IntactRecord, JournalRecord } from "#journal/record.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import type { Check, Finding } from "./finding.ts";

/** What containers have left that are gone: the runtime never called DEL, or it could not do all of it. */
export const staleRecords: Check = {
  id: "stale-records",
  summary: "attachments whose container is gone, and ADDs and DELs that have not ended",
  run({ records, world, bootId }) {
    const unfinished = new Set(world.journal.unfinished().map(nameOf));
    return records.flatMap((record): readonly Finding[] => {
      const evidence = evidenceOf(record, bootId, unfinished.has(nameOf(record)));
      if (evidence === undefined) return [];
      const { network, containerId, ifName } = record.key;
      return [
        {
          id: "stale-record",
          severity: "warning",
          subject: `${network} ${containerId} ${ifName}`,
          evidence: `${record.plugin}: ${evidence}`,
          remedy:
            "DEL or GC of the network removes all that is left of it; so does the start of netd, unless the machine has not been started since",
        },
      ];
    });
  },
};

function nameOf({ key, plugin }: JournalRecord): string {
  return JSON.stringify([key.network, key.containerId, key.ifName, plugin]);
}

function evidenceOf(record: JournalRecord, bootId: string, isUnfinished: boolean): string | undefined {
  if (record.phase === "torn") return "its record in the journal is damaged";
  if (record.bootId !== bootId) return "it is of before the machine was started";
  if (isUnfinished) return `its ${record.phase === "leaving" ? "DEL" : "ADD"} has not ended`;
  if (record.phase === "done" && isNamespaceGone(record)) {
    return `its namespace ${record.netns?.path ?? ""} is gone, and no DEL has come`;
  }
  return undefined;
}

function isNamespaceGone({ netns }: IntactRecord): boolean {
  if (!netns || netns.path === "") return false;
  const present = identifyNamespace(netns.path);
  return typeof present === "string" || present.dev !== netns.dev || present.ino !== netns.ino;
}
