import { withPolicyLock } from "#journal/attachment-lock.ts";
import type { PluginHost } from "#plugins/context.ts";

/** A run of iptables takes milliseconds, a policy of both families some twenty runs. */
const lockTimeoutMs = 30_000;

/**
 * Runs `work` while nobody else makes or removes what holds for a bridge. nftables tells who commits whether another was
 * faster, but not where that one found everything there and so changed nothing; iptables never tells. So whoever is the
 * last behind a bridge removes its policy in here, by records that are read in here; and who adds one without adding an
 * element of his own does that in here, when his record is there.
 */
export function alone<Value>(host: PluginHost, work: () => Promise<Value>): Promise<Value> {
  return withPolicyLock(host.directories.run, work, { timeoutMs: lockTimeoutMs });
}
