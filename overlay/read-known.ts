import { ClusterList } from "./cluster-list.ts";
import type { Keys } from "./keys.ts";
import type { KnownFile } from "./known-file.ts";

/** What is on disk of a cluster, without all of it in memory twice; undefined where nothing is, or it is damaged. */
export function readKnown(keys: Keys, others: KnownFile, names: KnownFile): ClusterList | undefined {
  const list = new ClusterList(keys);
  const put = list.addEntry.bind(list);
  const revision = others.read(put, (key) => list.others.delete(key));
  if (revision === undefined) return undefined;
  names.read(put, (key) => list.names.delete(key));
  list.add({ revision, entries: [] });
  return list;
}
