import type { Engine, Entry, Snapshot, Step } from "#engine/engine.ts";
import { listOf } from "./cluster-list.ts";
import { OverlayError } from "./error.ts";
import type { Keys } from "./keys.ts";
import { formatRecord, readCluster } from "./record.ts";
import { ClusterView } from "./view.ts";

/** etcd takes 128. */
const stepsAtOnce = 100;

export interface Adopted {
  readonly created: number;
  readonly replaced: number;
  readonly removed: number;
}

/**
 * Writes a cluster that its engine has lost back into it, as one host knew it last: the engine was emptied, or restored
 * from an old copy. The cluster's record goes last, with a generation of its own, by which all hosts believe the engine
 * again: until then they keep what they have, and after it nothing is missing.
 * @param known what this host has on disk
 * @throws {OverlayError} "conflict": there is nothing to adopt, or another cluster is there; "missing": nothing is known
 * @throws {EngineError}
 */
export async function adopt(engine: Engine, keys: Keys, uuid: string, known: Snapshot): Promise<Adopted> {
  const view = new ClusterView(keys);
  view.replace(listOf(keys, known));
  const { cluster } = view;
  if (cluster?.uuid !== uuid)
    throw new OverlayError("missing", "This host knows nothing of its cluster: adopt it from another one");
  const snapshot = await engine.list(keys.prefix);
  const present = new Map(snapshot.entries.map((entry) => [entry.key, entry]));
  const stored = present.get(keys.cluster);
  const found = stored && readCluster(stored.key, stored.value);
  if (found && found.uuid !== uuid)
    throw new OverlayError(
      "conflict",
      `The engine has another cluster below ${keys.prefix}: ${found.uuid}, and this host is of ${uuid}`,
    );
  if (view.judge(listOf(keys, snapshot), uuid).trusted)
    throw new OverlayError(
      "conflict",
      "The engine has this cluster, and is believed: there is nothing to adopt",
    );
  const steps = differences(keys, known.entries, present);
  for (let at = 0; at < steps.length; at += stepsAtOnce)
    await write(engine, steps.slice(at, at + stepsAtOnce));
  const generation = Math.max(cluster.generation ?? 0, found?.generation ?? 0) + 1;
  const value = formatRecord({ ...cluster, generation });
  await write(engine, [
    stored
      ? { kind: "replace", key: keys.cluster, revision: stored.revision, value }
      : { kind: "create", key: keys.cluster, value },
  ]);
  const count = (kind: Step["kind"]) => steps.filter((step) => step.kind === kind).length;
  return { created: count("create"), replaced: count("replace"), removed: count("remove") };
}

function differences(keys: Keys, known: readonly Entry[], present: ReadonlyMap<string, Entry>): Step[] {
  // Sessions are the hosts' own, and so are names: each writes its own again. So does it with its containers of stretched
  // networks, but until then nobody would know the way to them.
  const isKept = (key: string) =>
    !key.startsWith(keys.names) &&
    !key.startsWith(keys.lives) &&
    !key.startsWith(keys.bulks) &&
    key !== keys.cluster;
  // What a host has written of itself since is newer than what is known of it.
  const isOfHost = (key: string) => key.startsWith(keys.hosts) || key.startsWith(keys.vteps);
  const wanted = new Map(known.filter(({ key }) => isKept(key)).map(({ key, value }) => [key, value]));
  const steps: Step[] = [];
  for (const [key, value] of wanted) {
    const entry = present.get(key);
    if (!entry) steps.push({ kind: "create", key, value });
    else if (entry.value !== value && !isOfHost(key))
      steps.push({ kind: "replace", key, revision: entry.revision, value });
  }
  for (const { key, revision } of present.values())
    if (isKept(key) && !isOfHost(key) && !wanted.has(key)) steps.push({ kind: "remove", key, revision });
  return steps;
}

async function write(engine: Engine, steps: readonly Step[]): Promise<void> {
  const outcome = await engine.commit(steps);
  if (!outcome.committed)
    throw new OverlayError("conflict", "Cannot adopt: others are writing to the engine meanwhile; try again");
}
