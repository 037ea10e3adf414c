import type { Call, Outcome } from "./plugin.ts";

/**
 * Runs another plugin by its type name: as a process found in CNI_PATH (`cni/invoke.ts`), or in this process
 * where the file found there is of this suite (`cni/in-process-runner.ts`). The contract seen is the same.
 */
export interface PluginRunner {
  /**
   * @param type name without a path separator, e.g. "host-local"
   * @param call environment with CNI_COMMAND already set for the delegate
   * @throws {CniError} code 4 or 7 when no such executable is in CNI_PATH
   */
  run(type: string, call: Call): Promise<Outcome>;
}
