import { type NetworkList, readConfList } from "#cni/conflist.ts";

/** The path by which every process of the host finds the host's own network namespace. */
export const hostNetns = "/proc/self/ns/net";

/** Networks that need no configuration. Versions are such that every plugin of that name still in use knows them. */
const lists: ReadonlyMap<string, NetworkList> = new Map(
  [
    { cniVersion: "1.0.0", name: "host", plugins: [{ type: "host" }] },
    { cniVersion: "0.4.0", name: "netctl-loopback", plugins: [{ type: "loopback" }] },
  ].map((json) => [json.name, readConfList(json)] as const),
);

/** Loopback is up in every sandbox, as in every container: runtimes do that by this plugin too. */
export const loopbackNetwork = "netctl-loopback";

/** The network `host`, and the one that gives every sandbox its `lo`; undefined for all others. */
export function builtinNetwork(name: string): NetworkList | undefined {
  return lists.get(name);
}
