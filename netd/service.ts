import { CniError, ErrorCode } from "#cni/error.ts";
import type { Call, Outcome, Plugin } from "#cni/plugin.ts";
import { fail } from "#cni/skel.ts";
import type { ResolverService } from "#dns-resolver/service.ts";
import { crashPoint, withCrashPoints } from "#machine/crash-point.ts";
import type { PluginHost } from "#plugins/context.ts";
import { isAttaching } from "#suite/plugins.ts";
import { runPlugin, subjectOf } from "#suite/run-plugin.ts";
import { serveNamesRequest } from "./names-request.ts";
import { namesRequestName, type Request } from "./protocol.ts";
import type { Caller } from "./server.ts";
import { type TurnRequest, Turns } from "./turns.ts";

/** Carries requests out, each when its turn comes. */
export class Service {
  readonly #host: PluginHost;
  readonly #plugins: ReadonlyMap<string, Plugin<PluginHost>>;
  readonly #resolver: ResolverService;
  readonly #turns = new Turns();

  /** @param plugins all that there are, loaded: requests take turns in the order in which they come */
  constructor(host: PluginHost, plugins: ReadonlyMap<string, Plugin<PluginHost>>, resolver: ResolverService) {
    this.#host = host;
    this.#plugins = plugins;
    this.#resolver = resolver;
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
    const plugin = this.#plugins.get(request.name);
    if (!plugin) {
      return fail(new CniError(ErrorCode.Internal, `Cannot run "${request.name}": no plugin of that name`));
    }
    const { environment, stdin, json } = request;
    const call: Call = { environment, stdin, json, signal: caller.signal };
    const run = () => runPlugin(plugin, call, this.#host, { isWanted: () => caller.isWaiting() });
    // An IPAM plugin is called within the turn of another request, if a foreign plugin delegates to it.
    const subject = isAttaching(plugin) ? subjectOf(call) : undefined;
    if (!subject) return await run();
    const { verb, network, containerId, ifName } = subject;
    const turn: TurnRequest = {
      network,
      kind: verb,
      signal: call.signal,
      cancel: () =>
        caller.cancel(
          new CniError(ErrorCode.TryAgainLater, "Cannot go on: a DEL of the same attachment came in"),
        ),
      ...(containerId === undefined ? {} : { attachment: `${containerId}/${ifName}` }),
    };
    return await this.#turns.take(turn, run);
  }
}
