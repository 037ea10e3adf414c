import { CniError, ErrorCode } from "#cni/error.ts";
import type { Call, Outcome } from "#cni/plugin.ts";
import { fail } from "#cni/skel.ts";
import { crashPoint, withCrashPoints } from "#machine/crash-point.ts";
import type { PluginHost } from "#plugins/context.ts";
import { plugins } from "#suite/plugins.ts";
import { runPlugin, subjectOf } from "#suite/run-plugin.ts";
import type { Request } from "./protocol.ts";
import { type TurnRequest, Turns } from "./turns.ts";

/** Carries requests out, each when its turn comes. */
export class Service {
  readonly #host: PluginHost;
  readonly #turns = new Turns();

  constructor(host: PluginHost) {
    this.#host = host;
  }

  /** Never throws: whatever happens becomes a CNI error. */
  async serve(request: Request, signal: AbortSignal): Promise<Outcome> {
    return await withCrashPoints("netd", request.environment, async () => {
      crashPoint("accepted");
      const outcome = await this.#serve(request, signal);
      crashPoint("before-reply");
      return outcome;
    });
  }

  async #serve(request: Request, signal: AbortSignal): Promise<Outcome> {
    const plugin = plugins.get(request.name);
    if (!plugin) {
      return fail(new CniError(ErrorCode.Internal, `Cannot run "${request.name}": no plugin of that name`));
    }
    const cancelled = new AbortController();
    const call: Call = {
      environment: request.environment,
      stdin: request.stdin,
      signal: AbortSignal.any([signal, cancelled.signal]),
    };
    const subject = subjectOf(call);
    const verb = call.environment["CNI_COMMAND"];
    if (!subject || (verb !== "ADD" && verb !== "DEL" && verb !== "CHECK" && verb !== "GC")) {
      return await runPlugin(plugin, call, this.#host);
    }
    const { network, containerId, ifName } = subject;
    const turn: TurnRequest = {
      network,
      kind: verb,
      cancel: () => cancelled.abort(new Error("a DEL of the same attachment came in")),
      ...(containerId === undefined ? {} : { attachment: `${containerId}/${ifName}` }),
    };
    return await this.#turns.take(turn, () => runPlugin(plugin, call, this.#host));
  }
}
