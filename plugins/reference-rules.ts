import type { Environment } from "#cni/plugin.ts";
import type { ReferenceRules } from "#nftables/reference-rules.ts";
import type { PluginHost } from "./context.ts";
import type { Departing } from "./departing.ts";

/**
 * Removes what the Go plugin of the same name may have made for an attachment that has no record of ours. Does nothing
 * where the runtime has kept no result of it: then it was never made, or a DEL has been here before, and nothing is
 * started in vain for every repeated DEL.
 * @throws {ProgramError} where something is there and can't be removed
 */
export async function removeReferenceRules(
  { key, record, prevResult, release }: Pick<Departing, "key" | "record" | "prevResult" | "release">,
  host: PluginHost,
  remove: (rules: ReferenceRules, key: Departing["key"]) => Promise<void>,
): Promise<void> {
  if (record || !prevResult) return;
  await remove(await referenceRules(host, release.environment), key);
}

/**
 * Rules of the Go plugins in the host's namespace.
 * @param environment whose PATH says where the programs are
 */
export async function referenceRules(host: PluginHost, environment: Environment): Promise<ReferenceRules> {
  // Few need it, and its names need node:crypto, which takes 8 ms to load.
  const { ReferenceRules } = await import("#nftables/reference-rules.ts");
  return new ReferenceRules({
    searchPath: environment["PATH"],
    namespacePath: host.kernel.namespace.path,
  });
}
