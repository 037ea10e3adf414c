import type { Entry } from "#engine/engine.ts";
import type { Link } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { Route } from "#kernel/route.ts";
import { containsIp, formatCidr, parseCidr } from "#net/cidr.ts";
import { equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import { withCluster } from "#netctl/cluster.ts";
import type { World } from "#netctl/world.ts";
import { overlayDirectory, readHostSettings } from "#overlay/host-settings.ts";
import { isOverlayDeviceName, overlayBridgeName, vtepMac } from "#overlay/identity.ts";
import { surveyNetwork } from "#overlay/kernel-survey.ts";
import { Keys } from "#overlay/keys.ts";
import { KnownFile } from "#overlay/known-file.ts";
import { readKnown } from "#overlay/read-known.ts";
import { type HostRecord, type NetworkRecord, readName } from "#overlay/record.ts";
import { missingEntries } from "#overlay/tunnel-entries.ts";
import { ClusterView } from "#overlay/view.ts";
import { type Hop, pass, stop } from "./hop.ts";

export interface KnownCluster {
  readonly view: ClusterView;
  /** This host's id. */
  readonly self: string;
}

/** What this host knows of its cluster, as its agent has it on disk; undefined where it is in none. */
export function readKnownCluster(world: World): KnownCluster | undefined {
  const directory = overlayDirectory(world.directories.state);
  const settings = readHostSettings(directory);
  if (!settings) return undefined;
  const keys = new Keys(settings.cluster);
  const others = new KnownFile(directory, "known.json");
  const known = readKnown(keys, others, new KnownFile(directory, "known-names.json"));
  if (!known) return undefined;
  const view = new ClusterView(keys);
  view.replace(known);
  return { view, self: settings.hostId };
}

/** From a tunnel of this host to the host that has the address, as far as it can be known here. */
export function crossOverlay(
  namespace: NetworkNamespace,
  { view, self }: KnownCluster,
  { route, out, address }: { readonly route: Route; readonly out: Link; readonly address: IpAddress },
): readonly Hop[] {
  if (out.kind === "bridge") return crossSegment(namespace, { view, self }, { out, address });
  if (out.kind !== "vxlan" || !isOverlayDeviceName(out.name)) return [];
  const block = [...view.blocks.values()].find(
    ({ record: { cidr } }) => cidr.address.family === address.family && containsIp(cidr, address),
  );
  const host = block && view.hosts.get(block.record.host);
  if (!host)
    return [
      stop(
        out.name,
        `no host of the cluster has ${formatIp(address)}`,
        "is it the address of a container that has gone? netctl cluster host ls shows who has which",
      ),
    ];
  const network = view.networks.get(block.network)?.record;
  const vni = network?.vni ?? 0;
  const underlay = host.underlay.v4 ?? host.underlay.v6;
  if (!underlay || !route.gateway) return [];
  const way = {
    gateway: route.gateway,
    mac: vtepMac(host.id, vni),
    underlay: network?.encrypted === true ? undefined : underlay,
  };
  const missing = missingEntries(namespace, out.ifindex, way);
  if (missing.length > 0)
    return [
      stop(
        out.name,
        `to ${host.name}: missing ${missing.join(", ")}`,
        "netd puts it back as soon as it sees that; netctl cluster status says whether it runs",
      ),
    ];
  return [
    pass(
      out.name,
      `VXLAN ${vni} of network ${block.network} to ${host.name} at ${formatIp(underlay)}, which has ${formatCidr(block.record.cidr)}`,
    ),
    goesOn(view, block.network, host, address),
  ];
}

/** In a network that is one segment: from its bridge to the host that has told where the container is. */
function crossSegment(
  namespace: NetworkNamespace,
  { view, self }: KnownCluster,
  { out, address }: { readonly out: Link; readonly address: IpAddress },
): readonly Hop[] {
  const network = [...view.networks.values()].find(
    ({ record }) => record.mode === "l2" && overlayBridgeName(record.vni) === out.name,
  )?.record;
  if (!network) return [];
  const known = [...view.endpointsOf(network.name).values()].find(({ record }) =>
    record.ips.some((ip) => equalIp(ip, address)),
  );
  const host = known && view.hosts.get(known.host);
  if (!host)
    return [
      stop(
        out.name,
        `no host of the cluster has a container with ${formatIp(address)}`,
        "has the container gone, or come just now? netctl inspect shows the hosts and how many containers they have told of",
      ),
    ];
  // This host's own containers are ports of the bridge.
  if (host.id === self) return [];
  const { mac } = known.record;
  const underlay = host.underlay.v4 ?? host.underlay.v6;
  const survey = surveyNetwork(namespace, view, network, self);
  const missing = (survey.missing.get(host.id) ?? []).filter((words) => words.includes(mac));
  const problems = [...survey.wrong, ...missing.map((words) => `missing ${words}`)];
  if (problems.length > 0)
    return [
      stop(
        out.name,
        `to ${host.name}: ${problems.join(", ")}`,
        "netd puts it back as soon as it sees that; netctl cluster status says whether it runs",
      ),
    ];
  return [
    pass(
      survey.devices[0] ?? out.name,
      `VXLAN ${network.vni} of network ${network.name} to ${host.name}${underlay ? ` at ${formatIp(underlay)}` : ""}, which has ${formatIp(address)} at ${mac}`,
    ),
    goesOn(view, network.name, host, address),
  ];
}

const goesOn = (view: ClusterView, network: string, host: HostRecord, address: IpAddress): Hop => {
  const name = containerAt(view, network, address);
  return {
    at: host.name,
    text: `${name === undefined ? "" : `${formatIp(address)} is called ${name}; `}what happens there, netctl trace host ${formatIp(address)} on ${host.name} says`,
    verdict: "unknown",
  };
};

/**
 * Addresses of the container of another host that is called so, `NAME` or `NAME.NETWORK`; empty if there is none. What
 * this host has on disk of names may be some seconds old: then the engine is asked, if it can be.
 * @param from addresses of who asks: of what is called so in several networks, that of his counts
 */
export async function addressesCalled(
  world: World,
  { view, self }: KnownCluster,
  text: string,
  from: readonly IpAddress[],
): Promise<readonly IpAddress[]> {
  const networks = [...view.networks.values()].map(({ record }) => record);
  const isOwn = ({ subnets }: NetworkRecord) =>
    subnets.some(({ cidr }) => from.some((ip) => ip.family === cidr.address.family && containsIp(cidr, ip)));
  const find = (network: string, entries: Iterable<Entry>) =>
    [...entries]
      .filter(({ key }) => key.split("/").at(-2) !== self)
      .map(({ key, value }) => readName(key, value))
      .filter(({ names }) => names.some((name) => name === text || `${name}.${network}` === text))
      .flatMap(({ addresses }) => addresses.map((cidr) => parseCidr(cidr).address));
  const sorted = [...networks].sort((a, b) => Number(isOwn(b)) - Number(isOwn(a)));
  for (const { name } of sorted) {
    const known = find(name, view.namesOf(name));
    if (known.length > 0) return known;
  }
  return await withCluster(world, async ({ keys }, engine) => {
    for (const { name } of sorted.filter(isOwn)) {
      const told = find(name, (await engine.list(keys.namesOf(name))).entries);
      if (told.length > 0) return told;
    }
    return [];
  }).catch(() => []);
}

function containerAt(view: ClusterView, network: string, address: IpAddress): string | undefined {
  for (const { key, value } of view.namesOf(network)) {
    const { names, addresses } = readName(key, value);
    if (addresses.some((text) => equalIp(parseCidr(text).address, address))) return names[0];
  }
  return undefined;
}
