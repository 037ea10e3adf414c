import { setIsolated } from "./isolated-port.ts";
import { decodeMade, type Made } from "./made.ts";
import { type Rules, removeRules } from "./rules.ts";

/**
 * Takes away what an attachment has been given, then its record. What is gone already is fine.
 * @param guess what it may have been given, where there is no record
 */
export async function releaseAttachment({ key, host }: Omit<Rules, "made">, guess?: Made): Promise<void> {
  const record = host.journal.read(key, "firewall");
  const made = decodeMade(record) ?? guess;
  // One whose ADD was killed leaves as well: another that leaves at once need not wait for it.
  if (record && record.phase !== "torn") host.journal.leave(key, "firewall");
  if (made) {
    if (made.isolatedPort) setIsolated(made.isolatedPort, false, host);
    await removeRules({ key, made, host });
  }
  if (record) host.journal.remove(key, "firewall");
}
