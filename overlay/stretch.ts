import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { writeSysctls } from "#kernel/sysctl.ts";
import { formatCidr, hostCidr } from "#net/cidr.ts";
import { formatIp, ipBits } from "#net/ip.ts";
import { decodeAddress, deleteAddress, getAddresses, newAddress } from "#netlink/route/address.ts";
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
import { deleteRoute, newRoute } from "#netlink/route/route.ts";
import type { Endpoint, Stretch, Tunnel } from "./desired.ts";
import {
  addressKey,
  bridgedKey,
  forwardingKey,
  type Have,
  neighborKey,
  ownKey,
  routeKey,
  routeProtocol,
  type Want,
} from "./kernel-entry.ts";

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

/** Of a tunnel that should be a port of a bridge: what it is not, in words; undefined if all is as it should be. */
export function portProblem(device: Link, bridge: { readonly ifindex: number; readonly name: string }) {
  if (device.master !== bridge.ifindex) return `tunnel ${device.name} is no port of ${bridge.name}`;
  const wrong = Object.entries(portSettings).filter(
    ([setting, value]) => device.bridgePort?.[setting as keyof typeof portSettings] !== value,
  );
  if (wrong.length === 0) return undefined;
  const words = wrong.map(([setting, value]) => `${setting} ${value ? "off" : "on"}`);
  return `port ${device.name} of ${bridge.name} has ${words.join(", ")}`;
}

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
  if (portProblem(device, { ifindex: bridge.ifindex, name }) !== undefined)
    attempt(`set port ${device.name} of ${name}`, setLink(device.ifindex, { bridgePort: portSettings }));
  return bridge.ifindex;
}

/** Ways to the containers of other hosts: by which tunnel, to which host, and who has which address. */
export function wantedOnBridge(
  tunnel: Tunnel,
  stretch: Stretch,
  ifindex: number,
  bridge: number,
): readonly Want[] {
  const { own, bridge: name } = stretch;
  return [
    {
      ...ownKey(bridge, own.mac),
      words: () => `own forwarding entry ${own.mac} of ${name}`,
      add: () => newForwardingEntry({ ifindex: bridge, mac: own.mac, presence: "replace" }),
    },
    ...own.addresses.map((address) => ({
      ...addressKey(bridge, address),
      words: () => `address ${formatCidr(address)} of ${name}`,
      add: () => newAddress({ ifindex: bridge, address, noDad: address.address.family === 6 }),
    })),
    ...stretch.endpoints.flatMap((endpoint) => endpointEntries(tunnel, stretch, endpoint, ifindex, bridge)),
  ];
}

/** From the one address that is this host's alone: to that of the gateway every host would answer itself. */
function hostRoutes(
  { own, bridge: name }: Stretch,
  { ips }: Endpoint,
  bridge: number,
): readonly (Want & Have)[] {
  return ips.flatMap((ip) => {
    const destination = hostCidr(ip);
    const source = own.addresses.find(({ address }) => address.family === ip.family)?.address;
    if (!source) return [];
    return [
      {
        ...routeKey({ destination, ifindex: bridge }),
        words: () => `route to ${formatCidr(destination)} by ${name}`,
        add: () =>
          newRoute({
            family: ip.family,
            destination,
            ifindex: bridge,
            source,
            protocol: routeProtocol,
            presence: "replace",
          }),
        remove: () =>
          deleteRoute({ family: ip.family, destination, ifindex: bridge, protocol: routeProtocol }),
      },
    ];
  });
}

/** The way to one of them. @param ifindex of the tunnel */
export function endpointEntries(
  { name, lower }: Tunnel,
  stretch: Stretch,
  endpoint: Endpoint,
  ifindex: number,
  bridge: number,
): readonly (Want & Have)[] {
  const { bridge: bridgeName } = stretch;
  const { mac, ips, underlay } = endpoint;
  return [
    {
      ...forwardingKey(ifindex, mac, underlay),
      words: () => `forwarding entry ${mac} to ${formatIp(underlay)} of ${name}`,
      add: () =>
        newForwardingEntry({
          ifindex,
          mac,
          destination: underlay,
          viaIfindex: lower,
          presence: "replace",
        }),
      remove: () => deleteForwardingEntry({ ifindex, mac, destination: underlay, viaIfindex: lower }),
    },
    {
      ...bridgedKey(bridge, mac, ifindex),
      words: () => `forwarding entry ${mac} of ${bridgeName}`,
      add: () =>
        newForwardingEntry({
          ifindex,
          mac,
          table: "master",
          state: NeighborState.noArp,
          presence: "replace",
        }),
      remove: () => deleteForwardingEntry({ ifindex, mac, table: "master" }),
    },
    ...ips.map((ip) => ({
      ...neighborKey(bridge, ip, mac),
      words: () => `neighbor ${formatIp(ip)} of ${bridgeName}`,
      add: () => newNeighbor({ ifindex: bridge, ip, mac, replace: true }),
      remove: () => deleteNeighbor({ ifindex: bridge, ip }),
      announced: { bridge, ip, mac },
    })),
    ...(endpoint.isHost ? hostRoutes(stretch, endpoint, bridge) : []),
  ];
}

/** What the bridge has of it. The tunnel's own table is not looked at here. */
export function presentOnBridge(
  namespace: NetworkNamespace,
  { ifindex, name }: Link,
  bridge: number,
  { own }: Stretch,
): readonly Have[] {
  const all = namespace.dump(getForwardingEntries({ master: bridge })).map(decodeForwardingEntry);
  const isOwnThere = all.some((entry) => entry.ifindex === bridge && entry.mac === own.mac);
  // The gateway's has the length of the subnet.
  const addresses = namespace
    .dump(getAddresses({ ifindex: bridge }))
    .map(decodeAddress)
    .map(({ address }) => address)
    .filter(({ address, prefixLength }) => prefixLength === ipBits(address.family));
  const forwarding = all
    .filter((entry) => entry.ifindex === ifindex && entry.master === bridge)
    .filter(({ state, destination }) => state === NeighborState.noArp && destination === undefined)
    .filter(({ flags }) => (flags & NeighborFlag.ExternallyLearned) === 0);
  const neighbors = namespace
    .dump(getNeighbors({ ifindex: bridge }))
    .map(decodeNeighbor)
    .filter(({ state }) => state === NeighborState.permanent)
    .filter(({ flags }) => (flags & NeighborFlag.ExternallyLearned) === 0);
  return [
    ...(isOwnThere
      ? [
          {
            ...ownKey(bridge, own.mac),
            words: () => `own forwarding entry ${own.mac} of the bridge of ${name}`,
            remove: () => deleteForwardingEntry({ ifindex: bridge, mac: own.mac }),
          },
        ]
      : []),
    ...addresses.map((address) => ({
      ...addressKey(bridge, address),
      words: () => `address ${formatCidr(address)} of the bridge of ${name}`,
      remove: () => deleteAddress({ ifindex: bridge, address }),
    })),
    ...forwarding.map(({ mac }) => ({
      ...bridgedKey(bridge, mac, ifindex),
      words: () => `forwarding entry ${mac} of the bridge of ${name}`,
      remove: () => deleteForwardingEntry({ ifindex, mac, table: "master" }),
    })),
    ...neighbors.map(({ ip, mac }) => ({
      ...neighborKey(bridge, ip, mac ?? ""),
      words: () => `neighbor ${formatIp(ip)} of the bridge of ${name}`,
      remove: () => deleteNeighbor({ ifindex: bridge, ip }),
    })),
  ];
}
