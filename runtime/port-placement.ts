import type { NetworkList } from "#cni/conflist.ts";
import type { JsonObject, JsonValue } from "#cni/json.ts";
import { decodeResult } from "#cni/result-versions.ts";
import type { CachedAttachment } from "./cache.ts";
import { ChainFailure, type ChainHost, targetOf } from "./chain.ts";
import { callPlugin } from "./plugin-call.ts";

/** CONVENTIONS.md of the CNI project, "Port mappings". */
const capability = "portMappings";

/** An attachment that is made, and the ports that it is to publish. */
export interface PortPlace {
  readonly cached: CachedAttachment;
  readonly list: NetworkList;
  readonly portMappings: readonly JsonObject[];
}

/**
 * Makes each attachment publish its ports, and no others. Only the plugins that publish ports are called, for the
 * attachments whose ports change: DEL where they leave, then ADD where they arrive, as one container can't have a port
 * in two places. What is published is kept with the cached result, whose DEL and CHECK need it; it is written after
 * the fact, so that what was cut off is done again.
 * @param options.again also where nothing changes: for ports that somebody has taken away
 * @throws {ChainFailure} the first plugin that failed
 */
export async function placePorts(
  places: readonly PortPlace[],
  host: ChainHost,
  options: { readonly again?: boolean } = {},
): Promise<void> {
  const changed = places.filter(({ cached, portMappings }) => !isSame(portsOf(cached), portMappings));
  for (const { cached, list } of changed) {
    if (portsOf(cached).length > 0) await withdraw(cached, list, host);
  }
  for (const { cached, list, portMappings } of options.again === true ? places : changed) {
    if (portMappings.length > 0) await publish(cached, list, portMappings, host);
  }
}

/** What an attachment publishes, as far as is known. */
export function portsOf({ capabilityArgs }: CachedAttachment): readonly JsonValue[] {
  const ports = capabilityArgs[capability];
  return Array.isArray(ports) ? (ports as readonly JsonValue[]) : [];
}

function isSame(a: readonly JsonValue[], b: readonly JsonValue[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

async function withdraw(cached: CachedAttachment, list: NetworkList, host: ChainHost): Promise<void> {
  await attempt(`Cannot withdraw the ports of ${cached.ifName} from network "${list.name}"`, async () => {
    await call("DEL", cached, list, cached.capabilityArgs, host);
    await host.cache.write({ ...cached, capabilityArgs: withPorts(cached, []) });
  });
}

async function publish(
  cached: CachedAttachment,
  list: NetworkList,
  portMappings: readonly JsonObject[],
  host: ChainHost,
): Promise<void> {
  const capabilityArgs = withPorts(cached, portMappings);
  await attempt(`Cannot publish the ports of ${cached.ifName} on network "${list.name}"`, async () => {
    try {
      await call("ADD", cached, list, capabilityArgs, host);
    } catch (error) {
      // As the specification has it after an ADD that failed; what it says is no news then.
      await call("DEL", cached, list, capabilityArgs, host).catch(() => undefined);
      throw error;
    }
    await host.cache.write({ ...cached, capabilityArgs });
  });
}

function withPorts({ capabilityArgs }: CachedAttachment, portMappings: readonly JsonObject[]): JsonObject {
  const { [capability]: _, ...others } = capabilityArgs;
  return portMappings.length === 0 ? others : { ...others, [capability]: [...portMappings] };
}

/** One verb of every plugin of the list that publishes ports, with the result of the whole chain. */
async function call(
  verb: "ADD" | "DEL",
  cached: CachedAttachment,
  list: NetworkList,
  capabilityArgs: JsonObject,
  host: ChainHost,
): Promise<void> {
  const publishers = list.plugins.filter(({ capabilities }) => capabilities.includes(capability));
  const prevResult = decodeResult(cached.result, list.cniVersion, "cached result");
  const target = { ...targetOf(cached), capabilityArgs };
  for (const plugin of verb === "DEL" ? publishers.reverse() : publishers) {
    // Not given the signal: taking a change back publishes as well.
    await callPlugin(verb, list, plugin, { prevResult, capabilityArgs }, host, target);
  }
}

async function attempt(action: string, act: () => Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    throw new ChainFailure(action, [error], error);
  }
}
