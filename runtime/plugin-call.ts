import type { NetworkList, PluginConf } from "#cni/conflist.ts";
import { CniError, type ErrorCode } from "#cni/error.ts";
import { findPlugin } from "#cni/find-plugin.ts";
import { interpretOutcome } from "#cni/invoke.ts";
import type { JsonObject } from "#cni/json.ts";
import type { Environment, Verb } from "#cni/plugin.ts";
import type { PluginRunner } from "#cni/plugin-runner.ts";
import { type RequestExtras, requestConfig } from "#cni/request-config.ts";

/** Who is to be attached where: the parameters of ADD, CHECK and DEL that are not the network's. */
export interface AttachmentTarget {
  readonly containerId: string;
  /** Path of the namespace; empty for a DEL after it has gone. */
  readonly netns: string;
  readonly ifName: string;
  /** CNI_ARGS, in order. */
  readonly args: readonly (readonly [key: string, value: string])[];
  /** Values by capability; a plugin gets those that its configuration declares. */
  readonly capabilityArgs: JsonObject;
}

/** What running a plugin needs beside its configuration. */
export interface PluginHost {
  readonly runner: PluginRunner;
  /** CNI_PATH */
  readonly path: readonly string[];
  /** Handed to every plugin, with the variables of the contract on top. */
  readonly environment: Environment;
}

/** A plugin of a chain failed: which, at what, and the error that it answered with, as data. */
export class PluginFailure extends Error {
  override readonly name = "PluginFailure";
  readonly type: string;
  readonly verb: Verb;
  /** The specification's code; 999 where the plugin gave none. */
  readonly code: ErrorCode;

  constructor(type: string, verb: Verb, thrown: unknown) {
    const cause = CniError.from(thrown);
    const details = cause.details === "" ? "" : ` (${cause.details})`;
    super(`plugin ${type} failed ${verb} with code ${cause.code}: ${cause.message}${details}`, { cause });
    this.type = type;
    this.verb = verb;
    this.code = cause.code;
  }
}

/**
 * Runs one verb of one plugin of a list.
 * @returns what it printed, undefined if nothing
 * @throws {PluginFailure}
 */
export async function callPlugin(
  verb: Verb,
  list: NetworkList,
  plugin: PluginConf,
  extras: RequestExtras,
  host: PluginHost,
  target?: AttachmentTarget,
  signal?: AbortSignal,
): Promise<JsonObject | undefined> {
  try {
    const stdin = JSON.stringify(requestConfig(list, plugin, extras));
    const environment = callEnvironment(verb, host, target);
    const call = { environment, stdin, ...(signal === undefined ? {} : { signal }) };
    return interpretOutcome(await host.runner.run(plugin.type, call), plugin.type);
  } catch (error) {
    throw new PluginFailure(plugin.type, verb, error);
  }
}

/** @throws {CniError} 4 or 7 for the first plugin of the list that can't be executed */
export function requireExecutables(list: NetworkList, host: PluginHost): void {
  for (const plugin of list.plugins) findPlugin(plugin.type, host.path);
}

/** Variables of a call that this process was itself started with do not go on to the next plugin. */
export function callEnvironment(
  verb: Verb,
  host: PluginHost,
  target: AttachmentTarget | undefined,
): Environment {
  const inherited = Object.entries(host.environment).filter(([name]) => !name.startsWith("CNI_"));
  const parameters =
    target === undefined
      ? {}
      : {
          CNI_CONTAINERID: target.containerId,
          CNI_NETNS: target.netns,
          CNI_IFNAME: target.ifName,
          CNI_ARGS: target.args.map(([key, value]) => `${key}=${value}`).join(";"),
        };
  return {
    ...Object.fromEntries(inherited),
    CNI_COMMAND: verb,
    CNI_PATH: host.path.join(":"),
    ...parameters,
  };
}
