import type { End } from "./end.ts";
import type { OwnKey } from "./key-file.ts";

/** After so long a host that has not been heard of by the old key either is not waited for. */
const patienceMs = 600_000;
/** In so many looks, one and a half seconds apart, nothing may come by the old key before its device goes. */
const quietLooks = 20;

export interface RotationState {
  /** This host's, oldest first. */
  readonly keys: readonly OwnKey[];
  readonly ends: readonly End[];
  /** Hosts that have containers behind the encryption, with their public keys. */
  readonly peers: readonly { readonly name: string; readonly keys: readonly string[] }[];
  /** How long this process has known that there are two keys. */
  readonly sinceMs: number;
  /** Wall clock. */
  readonly nowMs: number;
  /** In how many looks nothing has come by the old key. */
  readonly quietLooks: number;
}

export interface RotationStep {
  readonly keys: readonly OwnKey[];
  readonly words: string;
}

/** Hosts that have not shaken hands with this one's new key yet. */
export function waitedFor({ keys, ends, peers }: RotationState): RotationState["peers"] {
  const end = ends.find(({ slot }) => slot === keys.at(-1)?.slot);
  return peers.filter((peer) => !peer.keys.some((key) => (end?.handshakes.get(key) ?? 0) > 0));
}

/**
 * How a key is replaced by another while packets flow. Both have a device, and all others are peers of both. The new one
 * is told to the others beside the old one; each two hosts go over to it when they have shaken hands (`choosePath`). Once
 * all have, the old one is no longer told, and when nothing comes by it any more its device goes. Nobody has to answer in
 * the engine, and a host that is cut off from it holds the old key up rather than lose its way.
 * @returns undefined where nothing is to be done now
 */
export function nextStep(state: RotationState): RotationStep | undefined {
  const { keys, ends, sinceMs, nowMs } = state;
  const [old, ...later] = keys;
  if (!old || later.length === 0) return undefined;
  if (old.isRetired) {
    if (state.quietLooks < quietLooks && ends.length > 0) return undefined;
    return { keys: later, words: "the old key is gone" };
  }
  const oldEnd = ends.find(({ slot }) => slot === old.slot);
  const isActive = (key: string) => nowMs - (oldEnd?.handshakes.get(key) ?? 0) < patienceMs;
  const waiting = waitedFor(state);
  if (waiting.length > 0 && (sinceMs < patienceMs || waiting.some((peer) => peer.keys.some(isActive))))
    return undefined;
  return { keys: [{ ...old, isRetired: true }, ...later], words: "all hosts have the new key" };
}
