import { CniError, ErrorCode } from "#cni/error.ts";
import { ExecRunner } from "#cni/invoke.ts";
import type { Call, Outcome } from "#cni/plugin.ts";
import type { PluginRunner } from "#cni/plugin-runner.ts";
import { emptyResult } from "#cni/result.ts";
import type { Log } from "#machine/log.ts";
import {
  attachByPlugins,
  type ChainOutcome,
  type ChainPluginsHost,
  checkByPlugins,
  collectByPlugins,
  detachByPlugins,
  statusByPlugins,
} from "#runtime/chain-plugins.ts";
import { type ChainCall, decodeChainCall, encodeChainOutcome } from "#runtime/chain-service.ts";
import { callFields, withOutcomeLogged } from "#suite/verb-log.ts";
import type { Request } from "./protocol.ts";
import type { Caller } from "./server.ts";
import type { TurnRequest, Turns } from "./turns.ts";

/** How one plugin of a chain is run here. */
export interface ChainWork {
  /** Turns of whole chains. Each plugin takes one of its own besides, as others may call plugins one by one. */
  readonly turns: Turns;
  readonly log: Log;
  /** Runs a plugin of the suite, if the name stands for one; undefined for somebody else's, which is executed. */
  readonly runOwn: (type: string, call: Call, caller: Caller) => Promise<Outcome | undefined>;
}

/**
 * Carries out one verb of a whole chain. A caller that goes away, or a DEL of the same attachment, ends an ADD as it
 * ends that of one plugin: all that was done is taken back.
 * @throws {CniError} for a request that is none; what plugins answer is in the outcome
 */
export async function serveChain(request: Request, caller: Caller, work: ChainWork): Promise<Outcome> {
  const { call, path } = decodeChainCall(request.environment, request.json);
  const { verb } = call;
  const run = async () => {
    if (!caller.isWaiting()) throw tryAgain(`${verb} was withdrawn before it began`);
    const runner = new ChainRunner(work, caller);
    const host = { runner, path, environment: request.environment, signal: caller.signal };
    return await runChain(call, host, caller);
  };
  // STATUS changes nothing, and is asked while others wait.
  const outcome = call.verb === "STATUS" ? await run() : await work.turns.take(turnOf(call, caller), run);
  const isDone = outcome.errors.length === 0;
  return {
    exitCode: isDone ? 0 : 1,
    stdout: JSON.stringify(encodeChainOutcome(outcome, call)),
    stderr: "",
  };
}

function turnOf(call: Exclude<ChainCall, { readonly verb: "STATUS" }>, caller: Caller): TurnRequest {
  return {
    network: call.list.name,
    attachment: "target" in call ? `${call.target.containerId}/${call.target.ifName}` : undefined,
    kind: call.verb,
    signal: caller.signal,
    cancel: () => caller.cancel(tryAgain("Cannot go on: a DEL of the same attachment came in")),
  };
}

async function runChain(call: ChainCall, host: ChainPluginsHost, caller: Caller): Promise<ChainOutcome> {
  if (call.verb === "GC") return await collectByPlugins(call.list, call.valid, host);
  if (call.verb === "STATUS") return await statusByPlugins(call.list, host);
  const { verb, list, target, prevResult } = call;
  if (verb === "DEL") return await detachByPlugins(list, target, host, prevResult);
  if (verb === "CHECK") return await checkByPlugins(list, target, host, prevResult ?? emptyResult);
  const outcome = await attachByPlugins(list, target, host);
  if (outcome.result === undefined || caller.isWaiting()) return outcome;
  // The runtime will never learn of it, so it must not stay.
  const undone = await detachByPlugins(list, target, host, outcome.result);
  return { errors: [tryAgain("ADD was withdrawn while it ran"), ...undone.errors] };
}

function tryAgain(message: string): CniError {
  return new CniError(ErrorCode.TryAgainLater, message);
}

class ChainRunner implements PluginRunner {
  readonly #work: ChainWork;
  readonly #caller: Caller;
  readonly #exec = new ExecRunner();

  constructor(work: ChainWork, caller: Caller) {
    this.#work = work;
    this.#caller = caller;
  }

  async run(type: string, call: Call): Promise<Outcome> {
    const own = await this.#work.runOwn(type, call, this.#caller);
    if (own) return own;
    // Somebody else's says nothing of itself.
    const log = this.#work.log.with(callFields(type, call));
    return await withOutcomeLogged(log, call, () => this.#exec.run(type, call));
  }
}
