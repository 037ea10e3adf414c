import type { Stats } from "node:fs";
import { splitPath } from "./environment.ts";
import { locatePlugin } from "./find-plugin.ts";
import type { ExecRunner } from "./invoke.ts";
import type { Call, Environment, Outcome, Plugin, VerbHost } from "./plugin.ts";
import { NoDelegateError, type PluginRunner } from "./plugin-runner.ts";
import { type RunVerbOptions, runVerb } from "./skel.ts";

export interface InProcessOptions<Host extends VerbHost> extends RunVerbOptions {
  /** The suite's plugin of that name, if there is one. */
  readonly load: (type: string) => Promise<Plugin<Host> | undefined>;
  /**
   * Asked for when a plugin is first run: the host holds this runner, so it can't exist before it.
   */
  readonly host: () => Host;
  /** True if this file is the suite's own executable of that name, so that running it would run the same code. */
  readonly isOurs: (file: string, stats: Stats) => boolean | Promise<boolean>;
  /** Runs everything else. */
  readonly fallback: ExecRunner;
  /** Gets what plugins run here would have written on stderr; it is in the outcome as well. */
  readonly onStderr?: (text: string) => void;
}

/**
 * Runs IPAM plugins of this suite without a process. Which file a name stands for is still decided by CNI_PATH, so a
 * foreign plugin of the same name that comes first is executed.
 */
export class InProcessRunner<Host extends VerbHost> implements PluginRunner {
  readonly #options: InProcessOptions<Host>;

  constructor(options: InProcessOptions<Host>) {
    this.#options = options;
  }

  /** @throws {CniError} as `ExecRunner.run` @throws {NoDelegateError} */
  async run(type: string, call: Call): Promise<Outcome> {
    const { host, fallback, onStderr } = this.#options;
    const { file, plugin } = await this.#find(type, call.environment);
    if (!plugin) return await fallback.runFile(file, call);
    if (plugin.hostNamespace !== "unused") throw new NoDelegateError(type);
    const outcome = await runVerb(plugin, call, host(), this.#options);
    if (outcome.stderr !== "") onStderr?.(outcome.stderr);
    return outcome;
  }

  async runsHere(type: string, environment: Environment): Promise<boolean> {
    return (await this.#find(type, environment)).plugin !== undefined;
  }

  /** The file that the name stands for, and the plugin where it is the suite's own. */
  async #find(type: string, environment: Environment) {
    const { load, isOurs } = this.#options;
    const { file, stats } = locatePlugin(type, splitPath(environment["CNI_PATH"] ?? ""));
    const plugin = await load(type);
    return { file, plugin: plugin && (await isOurs(file, stats)) ? plugin : undefined };
  }
}
