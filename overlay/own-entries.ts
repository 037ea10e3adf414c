import type { Change, Engine, Entry, Step } from "#engine/engine.ts";
import { writtenAt } from "#engine/guard.ts";
import type { ClusterView, KnownNetwork } from "./view.ts";

/** Of one commit, beside its two guards: etcd takes 128 steps. */
const stepsAtOnce = 100;

export interface OwnEntriesOptions {
  readonly engine: Engine;
  readonly view: ClusterView;
  /** Of the session; undefined while there is none, or the engine is away or not believed. */
  readonly fence: () => Step | undefined;
}

/**
 * Brings what the engine has of this host's entries in a network to what they are: those that only this host writes, and
 * only while its session holds.
 * @param stored by key, as far as is known
 * @param wanted values by key
 * @returns false if the session or the network is another one by now: somebody calls again after that
 * @throws {EngineError}
 */
export async function writeOwnEntries(
  { engine, view, fence }: OwnEntriesOptions,
  { entry }: KnownNetwork,
  stored: ReadonlyMap<string, Entry>,
  wanted: ReadonlyMap<string, string>,
): Promise<boolean> {
  const steps: Step[] = [
    ...[...stored.keys()].flatMap((key) => (wanted.has(key) ? [] : [{ kind: "clear", key } as const])),
    ...[...wanted].flatMap(([key, value]) =>
      stored.get(key)?.value === value ? [] : [{ kind: "put", key, value } as const],
    ),
  ];
  for (let at = 0; at < steps.length; at += stepsAtOnce) {
    const guard = fence();
    if (!guard) return false;
    const part = steps.slice(at, at + stepsAtOnce);
    // What comes late must not outlive its network.
    const unchanged: Step = { kind: "unchanged", key: entry.key, revision: entry.revision };
    const outcome = await engine.commit([guard, unchanged, ...part]);
    if (!outcome.committed) return false;
    const changes = part.flatMap((step): Change[] => {
      if (step.kind === "clear") return [{ kind: "delete", key: step.key, revision: outcome.revision }];
      if (step.kind !== "put") return [];
      const { key, value } = step;
      return [{ kind: "put", entry: { key, value, revision: writtenAt(outcome, key) } }];
    });
    view.apply({ revision: 0, changes });
  }
  return true;
}
