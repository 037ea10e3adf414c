import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { writeSysctls } from "#kernel/sysctl.ts";
import { formatIp } from "#net/ip.ts";
import {
  decodeForwardingEntry,
  deleteForwardingEntry,
  getForwardingEntries,
  newForwardingEntry,
} from "#netlink/route/fdb.ts";
import type { BridgePort } from "#netlink/route/kind/bridge-port.ts";
import { type Link, newLink, setLink } from "#netlink/route/link.ts";
import {
  decodeNeighbor,
  deleteNeighbor,
  getNeighbors,
  NeighborFlag,
  NeighborState,
  newNeighbor,
} from "#netlink/route/neighbor.ts";
import type { Stretch, Tunnel } from "./desired.ts";
import { forwardingKey, type Have, keyed, neighborKey, type Want } from "./kernel-entry.ts";

/**
 * What the tunnel's port of a stretched network's bridge does: nothing is flooded to the other hosts, nothing learned
 * from their packets, and who asks for a container there is answered here, by the bridge's own neighbours.
 */
const portSettings = {
  learning: false,
  unicastFlood: false,
  multicastFlood: false,
  broadcastFlood: false,
  neighborSuppress: true,
} as const satisfies BridgePort;

interface Report {
  readonly changes: string[];
  readonly failures: string[];
}

/** Makes the bridge, and the tunnel a port of it. @returns the bridge's ifindex; undefined where that failed */
export function ensureStretch(
  namespace: NetworkNamespace,
  device: Link,
  { bridge: name, mac }: Stretch,
  { changes, failures }: Report,
): number | undefined {
  const attempt = (words: string, request: ReturnType<typeof setLink>): boolean => {
    const [outcome] = namespace.attempt([request]);
    if (outcome?.error) failures.push(`${words}: ${outcome.error.message}`);
    else changes.push(words);
    return outcome?.errno === 0;
  };
  if (!readLink(namespace, name)) {
    if (!attempt(`make bridge ${name}`, newLink({ name, kind: "bridge", mac }))) return undefined;
    // As those that the bridge plugin makes: containers on it can't become the host's router.
    writeSysctls(namespace, [
      { key: `net/ipv6/conf/${name}/accept_ra`, value: 0, optional: true },
      { key: `net/ipv6/conf/${name}/accept_dad`, value: 0, optional: true },
    ]);
  }
  const bridge = readLink(namespace, name);
  if (bridge?.kind !== "bridge") {
    failures.push(`bridge ${name}: a link of another kind has the name`);
    return undefined;
  }
  if (bridge.mac !== mac || !bridge.up)
    attempt(`set bridge ${name} up`, setLink(bridge.ifindex, { mac, up: true }));
  if (device.master !== bridge.ifindex)
    attempt(`connect tunnel ${device.name} to ${name}`, setLink(device.ifindex, { master: bridge.ifindex }));
  const isSet = (setting: keyof typeof portSettings) =>
    device.bridgePort?.[setting] === portSettings[setting];
  if (device.master !== bridge.ifindex || !Object.keys(portSettings).every((each) => isSet(each as never)))
    attempt(`set port ${device.name} of ${name}`, setLink(device.ifindex, { bridgePort: portSettings }));
  return bridge.ifindex;
}

/** Ways to the containers of other hosts: by which tunnel, to which host, and who has which address. */
export function wantedOnBridge(
  { name, lower }: Tunnel,
  { endpoints, bridge: bridgeName }: Stretch,
  ifindex: number,
  bridge: number,
): readonly Want[] {
  return endpoints.flatMap(({ mac, ips, underlay }) => [
    {
      ...forwardingKey(ifindex, mac, underlay),
      words: `forwarding entry ${mac} to ${formatIp(underlay)} of ${name}`,
      add: newForwardingEntry({
        ifindex,
        mac,
        destination: underlay,
        viaIfindex: lower,
        presence: "replace",
      }),
    },
    {
      ...keyed(`bridge fdb ${bridge} ${mac}`, String(ifindex)),
      words: `forwarding entry ${mac} of ${bridgeName}`,
      add: newForwardingEntry({
        ifindex,
        mac,
        table: "master",
        state: NeighborState.noArp,
        presence: "replace",
      }),
    },
    ...ips.map((ip) => ({
      ...neighborKey(bridge, ip, mac),
      words: `neighbor ${formatIp(ip)} of ${bridgeName}`,
      add: newNeighbor({ ifindex: bridge, ip, mac, replace: true }),
    })),
  ]);
}

/** What the bridge has of it. The tunnel's own table is not looked at here. */
export function presentOnBridge(
  namespace: NetworkNamespace,
  { ifindex, name }: Link,
  bridge: number,
): readonly Have[] {
  const forwarding = namespace
    .dump(getForwardingEntries({ master: bridge }))
    .map(decodeForwardingEntry)
    .filter((entry) => entry.ifindex === ifindex && entry.master === bridge)
    .filter(({ state, destination }) => state === NeighborState.noArp && destination === undefined)
    .filter(({ flags }) => (flags & NeighborFlag.ExternallyLearned) === 0);
  const neighbors = namespace
    .dump(getNeighbors({ ifindex: bridge }))
    .map(decodeNeighbor)
    .filter(({ state }) => state === NeighborState.permanent)
    .filter(({ flags }) => (flags & NeighborFlag.ExternallyLearned) === 0);
  return [
    ...forwarding.map(({ mac }) => ({
      ...keyed(`bridge fdb ${bridge} ${mac}`, String(ifindex)),
      words: `forwarding entry ${mac} of the bridge of ${name}`,
      remove: deleteForwardingEntry({ ifindex, mac, table: "master" }),
    })),
    ...neighbors.map(({ ip, mac }) => ({
      ...neighborKey(bridge, ip, mac ?? ""),
      words: `neighbor ${formatIp(ip)} of the bridge of ${name}`,
      remove: deleteNeighbor({ ifindex: bridge, ip }),
    })),
  ];
}
