import { readAllAddresses } from "#kernel/address.ts";
import { NetworkNamespace } from "#kernel/namespace.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { type IpAddress, isLinkLocal, isLoopback, tryParseIp } from "#net/ip.ts";
import { Failure } from "#netctl/failure.ts";
import { collectTopology } from "#netctl/topology/collect.ts";
import { namespaceId } from "#netctl/topology/namespace-table.ts";
import { noNamespace, selectNamespaces } from "#netctl/topology/select.ts";
import type { World } from "#netctl/world.ts";

/** Where a packet begins, or is to arrive. */
export interface Place {
  /** As people call it. */
  readonly name: string;
  /** Undefined for an address that is not of a namespace known here. */
  readonly netns?: string;
  /** Of its interfaces, without loopback and link-local ones. */
  readonly addresses: readonly IpAddress[];
}

/**
 * A sandbox, a container of any runtime by its name, its id or the beginning of it, a pod, a process id, a namespace's
 * path or the name of its file, or `host`.
 * @throws {Failure}
 */
export async function findPlace(world: World, text: string): Promise<Place> {
  if (text === "host") return placeAt("host", "/proc/self/ns/net");
  if (text.startsWith("/")) return placeAt(text, text);
  if (/^\d+$/.test(text)) return placeAt(`process ${text}`, `/proc/${text}/ns/net`);
  const sandboxes = await world.sandboxes.list();
  const sandbox = sandboxes.find((each) => each.name === text);
  if (sandbox) return placeAt(text, sandbox.netns);
  const known = [
    ...sandboxes.map(({ containerId, netns }) => ({ containerId, netns })),
    ...world.journal
      .list()
      .flatMap((record) =>
        record.phase === "torn" || record.netns === undefined
          ? []
          : [{ containerId: record.key.containerId, netns: record.netns.path }],
      ),
  ].filter(({ containerId }) => containerId.startsWith(text));
  const [first] = known;
  if (!first) return await findElsewhere(world, text);
  const ids = new Set(known.map(({ containerId }) => containerId));
  if (ids.size > 1)
    throw new Failure(`"${text}" is the beginning of ${ids.size} container ids; give more of it`);
  return placeAt(text, first.netns);
}

/** What no record of this suite names: containers and pods of other runtimes, mounted namespaces. @throws {Failure} */
async function findElsewhere(world: World, text: string): Promise<Place> {
  const topology = await collectTopology(world);
  const found = selectNamespaces(topology, text, namespaceId(world.kernel.namespace)).filter(
    ({ kind }) => kind !== "host",
  );
  const [only] = found;
  if (only === undefined) throw noNamespace(topology, text);
  if (found.length > 1)
    throw new Failure(`"${text}" is the name of ${found.length} namespaces; give an id, or a process of it`);
  return placeAt(text, only.paths[0] ?? `/proc/${only.processes[0]?.pid}/ns/net`);
}

/** The same, or an address of anybody's. @throws {Failure} */
export async function findTarget(world: World, text: string): Promise<Place> {
  const ip = tryParseIp(text);
  return ip ? { name: text, addresses: [ip] } : await findPlace(world, text);
}

function placeAt(name: string, netns: string): Place {
  if (typeof identifyNamespace(netns) === "string")
    throw new Failure(`The network namespace of ${name} is gone: ${netns}`);
  const namespace = NetworkNamespace.open(netns);
  try {
    const addresses = readAllAddresses(namespace)
      .map(({ address }) => address.address)
      .filter((ip) => !isLoopback(ip) && !isLinkLocal(ip));
    return { name, netns, addresses };
  } finally {
    namespace.close();
  }
}
