import type { Link } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { Route } from "#kernel/route.ts";
import { containsIp, formatCidr, parseCidr } from "#net/cidr.ts";
import { equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import type { World } from "#netctl/world.ts";
import { overlayDirectory, readHostSettings } from "#overlay/host-settings.ts";
import { isOverlayDeviceName, vtepMac } from "#overlay/identity.ts";
import { Keys } from "#overlay/keys.ts";
import { KnownFile } from "#overlay/known-file.ts";
import { readName } from "#overlay/record.ts";
import { missingEntries } from "#overlay/tunnel-entries.ts";
import { ClusterView } from "#overlay/view.ts";
import { type Hop, pass, stop } from "./hop.ts";

/** What this host knows of its cluster, as its agent has it on disk; undefined where it is in none. */
export function readKnownCluster(world: World): ClusterView | undefined {
  const directory = overlayDirectory(world.directories.state);
  const settings = readHostSettings(directory);
  const known = settings && new KnownFile(directory, "known.json").load();
  if (!known) return undefined;
  const view = new ClusterView(new Keys(settings.cluster));
  const names = new KnownFile(directory, "known-names.json").load()?.entries ?? [];
  view.replace({ ...known, entries: [...known.entries, ...names] });
  return view;
}

/** From a tunnel of this host to the host that has the address, as far as it can be known here. */
export function crossOverlay(
  namespace: NetworkNamespace,
  view: ClusterView,
  { route, out, address }: { readonly route: Route; readonly out: Link; readonly address: IpAddress },
): readonly Hop[] {
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
  const name = containerAt(view, block.network, address);
  return [
    pass(
      out.name,
      `VXLAN ${vni} of network ${block.network} to ${host.name} at ${formatIp(underlay)}, which has ${formatCidr(block.record.cidr)}`,
    ),
    {
      at: host.name,
      text: `${name === undefined ? "" : `${formatIp(address)} is called ${name}; `}what happens there, netctl trace host ${formatIp(address)} on ${host.name} says`,
      verdict: "unknown",
    },
  ];
}

function containerAt(view: ClusterView, network: string, address: IpAddress): string | undefined {
  for (const { key, value } of view.namesOf(network).values()) {
    const { names, addresses } = readName(key, value);
    if (addresses.some((text) => equalIp(parseCidr(text).address, address))) return names[0];
  }
  return undefined;
}
