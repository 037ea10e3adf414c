import { CniError, ErrorCode } from "#cni/error.ts";
import type { Call, Outcome, Plugin } from "#cni/plugin.ts";
import { fail } from "#cni/skel.ts";
import type { ResolverService } from "#dns-resolver/service.ts";
import type { Engine } from "#engine/engine.ts";
import { crashPoint, withCrashPoints } from "#machine/crash-point.ts";
import type { PluginHost } from "#plugins/context.ts";
import type { SuiteHost } from "#suite/host.ts";
import { isAttaching } from "#suite/plugins.ts";
import { runPlugin, subjectOf } from "#suite/run-plugin.ts";
import { callFields, withOutcomeLogged } from "#suite/verb-log.ts";
import { serveChain } from "./chain.ts";
import type { Metrics } from "./metrics.ts";
import { serveNamesRequest } from "./names-request.ts";
import { serveEngineCall } from "./overlay/request.ts";
import {
  chainRequestName,
  engineRequestName,
  metricsRequestName,
  namesRequestName,
  type Request,
} from "./protocol.ts";
import type { Caller } from "./server.ts";
import { type TurnRequest, Turns } from "./turns.ts";

/** Carries requests out, each when its turn comes. */
export class Service {
  readonly #host: SuiteHost;
  readonly #plugins: ReadonlyMap<string, Plugin<PluginHost>>;
  readonly #resolver: ResolverService;
  readonly #engine: () => Promise<Engine>;
  readonly #metrics: Metrics;
  readonly #turns = new Turns();
  readonly #chains = new Turns();

  /**
   * @param plugins all that there are, loaded: requests take turns in the order in which they come
   * @param engine opens the embedded one
   */
  constructor(
    host: SuiteHost,
    plugins: ReadonlyMap<string, Plugin<PluginHost>>,
    resolver: ResolverService,
    engine: () => Promise<Engine>,
    metrics: Metrics,
  ) {
    this.#host = host;
    this.#plugins = plugins;
    this.#resolver = resolver;
    this.#engine = engine;
    this.#metrics = metrics;
  }

  /** Never throws: whatever happens becomes a CNI error. */
  async serve(request: Request, caller: Caller): Promise<Outcome> {
    return await withCrashPoints("netd", request.environment, async () => {
      crashPoint("accepted");
      const outcome = await this.#serve(request, caller).catch(fail);
      crashPoint("before-reply");
      return outcome;
    });
  }

  async #serve(request: Request, caller: Caller): Promise<Outcome> {
    if (request.name === namesRequestName) return await serveNamesRequest(request.stdin, this.#resolver);
    if (request.name === engineRequestName) return await serveEngineCall(request.stdin, this.#engine);
    if (request.name === metricsRequestName)
      return { exitCode: 0, stdout: await this.#metrics.text(), stderr: "" };
    if (request.name === chainRequestName) {
      const runOwn = (type: string, call: Call, by: Caller) => this.#runOwn(type, call, by);
      return await serveChain(request, caller, { turns: this.#chains, runOwn, log: this.#host.log });
    }
    const plugin = this.#plugins.get(request.name);
    if (!plugin) {
      return fail(new CniError(ErrorCode.Internal, `Cannot run "${request.name}": no plugin of that name`));
    }
    const { environment, stdin, json } = request;
    return await this.#runInTurn(plugin, { environment, stdin, json, signal: caller.signal }, caller);
  }

  /** A plugin of a chain, where CNI_PATH leads to the suite's own. */
  async #runOwn(type: string, call: Call, caller: Caller): Promise<Outcome | undefined> {
    if (!(await this.#host.runner.runsHere?.(type, call.environment))) return undefined;
    const plugin = this.#plugins.get(type);
    return plugin && (await this.#runInTurn(plugin, call, caller));
  }

  /** @param call without a signal for what is carried out whether or not anybody waits for it */
  async #runInTurn(plugin: Plugin<PluginHost>, call: Call, caller: Caller): Promise<Outcome> {
    const log = this.#host.log.with(callFields(plugin.name, call));
    const run = () => this.#takeTurn(plugin, call, caller, this.#host.withLog(log));
    return await this.#metrics.time(plugin.name, call, () => withOutcomeLogged(log, call, run));
  }

  async #takeTurn(
    plugin: Plugin<PluginHost>,
    call: Call,
    caller: Caller,
    host: PluginHost,
  ): Promise<Outcome> {
    const { signal } = call;
    const isWanted = () => signal === undefined || caller.isWaiting();
    const run = () => runPlugin(plugin, call, host, { isWanted });
    // An IPAM plugin is called within the turn of another request, if a foreign plugin delegates to it.
    const subject = isAttaching(plugin) ? subjectOf(call) : undefined;
    if (!subject) return await run();
    const { verb, network, containerId, ifName } = subject;
    const turn: TurnRequest = {
      network,
      kind: verb,
      signal,
      cancel: () =>
        caller.cancel(
          new CniError(ErrorCode.TryAgainLater, "Cannot go on: a DEL of the same attachment came in"),
        ),
      ...(containerId === undefined ? {} : { attachment: `${containerId}/${ifName}` }),
    };
    return await this.#turns.take(turn, run);
  }
}
