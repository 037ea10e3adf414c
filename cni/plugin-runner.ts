import { CniError, ErrorCode } from "./error.ts";
import type { Call, Environment, Outcome } from "./plugin.ts";

/**
 * A plugin that makes interfaces was named where another plugin delegates to one that hands out addresses. Running it
 * would make it delegate in turn, by the same configuration, for ever.
 */
export class NoDelegateError extends CniError {
  constructor(type: string) {
    super(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use plugin ${JSON.stringify(type)} as "ipam.type": it makes interfaces, and hands out no addresses`,
    );
  }
}

/**
 * Runs another plugin by its type name: as a process found in CNI_PATH (`cni/invoke.ts`), or in this process
 * where the file found there is of this suite (`cni/in-process-runner.ts`). The contract seen is the same.
 */
export interface PluginRunner {
  /**
   * @param type name without a path separator, e.g. "host-local"
   * @param call environment with CNI_COMMAND already set for the delegate
   * @throws {CniError} code 4 or 7 when no such executable is in CNI_PATH
   * @throws {NoDelegateError}
   */
  run(type: string, call: Call): Promise<Outcome>;
  /**
   * Whether `run` would run code of this suite, in this process. Without this method it never would.
   * @throws {CniError} as `run`
   */
  runsHere?(type: string, environment: Environment): Promise<boolean>;
}
