import { CniError, ErrorCode } from "#cni/error.ts";
import { interpretOutcome } from "#cni/invoke.ts";
import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import type {
  AddRequest,
  AnyRequest,
  CheckRequest,
  DelRequest,
  GcRequest,
  StatusRequest,
  Verb,
} from "#cni/plugin.ts";
import { NoDelegateError, type PluginRunner } from "#cni/plugin-runner.ts";
import type { CniResult } from "#cni/result.ts";
import { decodeResult } from "#cni/result-versions.ts";
import { atLeast } from "#cni/version.ts";

/**
 * The type name of the IPAM plugin that a configuration asks for; `undefined` if it asks for none, which is layer 2
 * only for most drivers.
 * @throws {CniError} 7 if `ipam` is no object or its `type` no text
 */
export function ipamType(config: JsonObject): string | undefined {
  const ipam = field(config, "ipam");
  if (ipam === undefined) return undefined;
  const type = isJsonObject(ipam) ? (field(ipam, "type") ?? "") : undefined;
  if (typeof type !== "string") {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use IPAM configuration ${JSON.stringify(ipam)}: must be an object with the name of a plugin as "type"`,
    );
  }
  return type === "" ? undefined : type;
}

/**
 * Asks the IPAM plugin that the configuration names, as the specification's section "Delegation" has it: the same
 * environment with the verb, and the complete request configuration. An error of the plugin is thrown as its own, with
 * its code. Every method does nothing where no plugin is named, except `add`.
 */
export class IpamDelegate {
  readonly #runner: PluginRunner;

  constructor(runner: PluginRunner) {
    this.#runner = runner;
  }

  /**
   * @returns addresses, routes and dns, without interfaces; `undefined` where the configuration names no plugin
   * @throws {CniError} of the plugin, after a DEL where one can be sent safely; 7 where it gave no address
   */
  async add(request: AddRequest): Promise<CniResult | undefined> {
    const type = ipamType(request.config.json);
    if (type === undefined) return undefined;
    try {
      const json = await this.#run(type, request, "ADD");
      const result = decodeResult(json ?? {}, request.config.cniVersion, `result of IPAM plugin ${type}`);
      if (result.ips.length === 0) {
        throw new CniError(ErrorCode.InvalidNetworkConfig, "IPAM plugin returned missing IP config", {
          details: `ipam.type is ${JSON.stringify(type)}`,
        });
      }
      return {
        interfaces: [],
        ips: result.ips.map(({ address, gateway }) => (gateway ? { address, gateway } : { address })),
        routes: result.routes,
        dns: result.dns,
      };
    } catch (error) {
      if (!mayOwnAddresses(error)) await this.#giveBack(type, request, error);
      throw error;
    }
  }

  /**
   * Whether what an ADD hands out is noted by somebody else than this suite, in whichever way; false where no plugin is
   * named. A plugin that can't be found counts: `add` says what is wrong with it.
   */
  async isForeign(request: AddRequest): Promise<boolean> {
    const type = ipamType(request.config.json);
    if (type === undefined) return false;
    try {
      return (await this.#runner.runsHere?.(type, request.environment)) !== true;
    } catch {
      return true;
    }
  }

  async del(request: DelRequest | AddRequest): Promise<void> {
    const type = ipamType(request.config.json);
    if (type === undefined) return;
    try {
      await this.#run(type, request, "DEL");
    } catch (error) {
      // Which has never given anything.
      if (!(error instanceof NoDelegateError)) throw error;
    }
  }

  async check(request: CheckRequest): Promise<void> {
    const type = ipamType(request.config.json);
    if (type !== undefined) await this.#run(type, request, "CHECK");
  }

  /** Below 1.1.0 the plugin is not called: it would refuse the verb. */
  async gc(request: GcRequest): Promise<void> {
    const type = ipamType(request.config.json);
    if (type !== undefined && atLeast(request.config.cniVersion, "1.1.0"))
      await this.#run(type, request, "GC");
  }

  /** Below 1.1.0 the plugin is not called: it would refuse the verb. */
  async status(request: StatusRequest): Promise<void> {
    const type = ipamType(request.config.json);
    if (type !== undefined && atLeast(request.config.cniVersion, "1.1.0")) {
      await this.#run(type, request, "STATUS");
    }
  }

  async #run(type: string, request: AnyRequest, verb: Verb): Promise<JsonObject | undefined> {
    // What is given back is given back even where the caller has gone meanwhile.
    const signal = verb === "DEL" ? {} : { signal: request.signal };
    const environment = { ...request.environment, CNI_COMMAND: verb };
    const outcome = await this.#runner.run(type, {
      environment,
      stdin: request.stdin,
      json: request.config.json,
      netns: "netns" in request ? request.netns : undefined,
      ...signal,
    });
    if (outcome.stderr !== "") request.onStderr(outcome.stderr);
    return interpretOutcome(outcome, type);
  }

  /** "If a delegated plugin fails on ADD, the upper plugin SHOULD execute it again with DEL" (SPEC.md, section 4). */
  async #giveBack(type: string, request: AddRequest, cause: unknown): Promise<void> {
    try {
      await this.del(request);
    } catch (error) {
      const first = CniError.from(cause);
      throw new CniError(first.code, first.message, {
        details: first.details,
        cause: new AggregateError([cause, error], `IPAM plugin ${type} failed to take back what it gave`),
      });
    }
  }
}

/**
 * True for an ADD that was refused because this very attachment, or another one, has what it asked for. A DEL would then
 * take the address of a container that runs. The texts are host-local's, ours and the reference's; it has nothing
 * reserved by then.
 */
function mayOwnAddresses(error: unknown): boolean {
  return (
    error instanceof Error &&
    /duplicate allocation is not allowed|requested IP address \S+ is not available/.test(error.message)
  );
}
