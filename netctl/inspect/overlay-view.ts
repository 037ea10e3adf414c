import { containsIp, formatCidr, parseCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import { withCluster } from "#netctl/cluster.ts";
import { describeError } from "#netctl/failure.ts";
import { readKnownCluster } from "#netctl/trace/overlay.ts";
import type { World } from "#netctl/world.ts";
import { listOf } from "#overlay/cluster-list.ts";
import { overlayDirectory, readHostSettings } from "#overlay/host-settings.ts";
import { overlayBridgeName } from "#overlay/identity.ts";
import { surveyNetwork } from "#overlay/kernel-survey.ts";
import { LocalNetworks } from "#overlay/local-network.ts";
import type { NetworkRecord } from "#overlay/record.ts";
import { ClusterView } from "#overlay/view.ts";
import type { OverlayHostView, OverlayView } from "./model.ts";

export interface OverlayNetworks {
  readonly byName: ReadonlyMap<
    string,
    { readonly view: OverlayView; readonly differences: readonly string[] }
  >;
  readonly problems: readonly string[];
}

const nothing: OverlayNetworks = { byName: new Map(), problems: [] };

/** The networks over several hosts: engine, what this host has given out, and the kernel, side by side. */
export async function readOverlayNetworks(world: World): Promise<OverlayNetworks> {
  const directory = overlayDirectory(world.directories.state);
  const settings = readHostSettings(directory);
  if (!settings) return nothing;
  const problems: string[] = [];
  const asked = await withCluster(world, async ({ keys }, engine) => {
    const view = new ClusterView(keys);
    const snapshot = await engine.list(keys.prefix);
    view.replace(listOf(keys, snapshot));
    const live = snapshot.entries.filter(({ key }) => key.startsWith(keys.lives));
    return { view, live: new Set(live.map(({ key }) => key.slice(keys.lives.length))) };
  }).catch((error: unknown) => {
    problems.push(
      `Cannot read the engine: ${describeError(error)}; the cluster is as this host knew it last`,
    );
    return undefined;
  });
  const known = asked?.view ?? readKnownCluster(world)?.view;
  if (!known) return { ...nothing, problems };
  const networks = new LocalNetworks(directory);
  const byName = new Map(
    [...known.networks.values()].map(({ record }) => {
      const survey = surveyNetwork(world.kernel.namespace, known, record, settings.hostId);
      const hosts = hostsOf(known, record, settings.hostId, networks, survey.missing, asked?.live);
      const view: OverlayView = {
        source: asked ? "engine" : "memory",
        vni: record.vni,
        mode: record.mode,
        encrypted: record.encrypted,
        bridge: overlayBridgeName(record.vni),
        devices: survey.devices,
        hosts,
      };
      const differences = [
        ...hosts.flatMap(({ name, missing }) =>
          missing.map((words) => `the engine has ${name}, and the kernel lacks ${words}`),
        ),
        ...survey.unexplained.map((words) => `the kernel has a ${words}, of which the engine knows nothing`),
        ...survey.wrong,
        ...ownerless(known, record),
        ...strays(known, record, settings.hostId, networks),
      ];
      return [record.name, { view, differences }] as const;
    }),
  );
  return { byName, problems };
}

function hostsOf(
  view: ClusterView,
  { name, mode }: NetworkRecord,
  self: string,
  networks: LocalNetworks,
  missing: ReadonlyMap<string, readonly string[]>,
  live: ReadonlySet<string> | undefined,
): readonly OverlayHostView[] {
  const holders = [...new Set(view.holdersOf(name))].filter((id) => view.hosts.has(id));
  return holders
    .flatMap((id) => {
      const host = view.hosts.get(id);
      if (!host) return [];
      const blocks = [...view.blocks.values()]
        .filter((block) => block.network === name && block.record.host === id)
        .map(({ record }) => record.cidr);
      const { counts } = id === self ? networks.usage(name, blocks) : { counts: [] };
      const containers = [...view.endpointsOf(name).values()].filter((each) => each.host === id).length;
      return [
        {
          id,
          name: host.name,
          here: id === self,
          live: live === undefined ? null : live.has(id),
          underlay: [host.underlay.v4, host.underlay.v6].filter((ip) => ip !== undefined).map(formatIp),
          blocks: blocks.map((cidr, index) => ({
            cidr: formatCidr(cidr),
            given: id === self ? (counts[index] ?? 0) : null,
          })),
          containers: mode === "l2" ? containers : null,
          missing: missing.get(id) ?? [],
        },
      ];
    })
    .sort((a, b) => Number(b.here) - Number(a.here) || (a.name < b.name ? -1 : 1));
}

function ownerless(view: ClusterView, { name }: NetworkRecord): readonly string[] {
  return [...view.blocks.values()]
    .filter((block) => block.network === name && !view.hosts.has(block.record.host))
    .map(
      ({ record }) =>
        `block ${formatCidr(record.cidr)} is of host ${record.host}, whom the engine does not know: netctl cluster host ls`,
    );
}

function strays(
  view: ClusterView,
  { name }: NetworkRecord,
  self: string,
  networks: LocalNetworks,
): readonly string[] {
  const blocks = [...view.blocks.values()].filter((block) => block.network === name);
  const own = blocks.filter(({ record }) => record.host === self).map(({ record }) => record.cidr);
  return networks.usage(name, own).strays.map((text) => {
    const { address } = parseCidr(`${text}/${text.includes(":") ? 128 : 32}`);
    const block = blocks.find(
      ({ record: { cidr } }) => cidr.address.family === address.family && containsIp(cidr, address),
    );
    return block
      ? `${text} is given out here, and in the engine it is of block ${formatCidr(block.record.cidr)} of ${view.hosts.get(block.record.host)?.name ?? block.record.host}`
      : `${text} is given out here, and of no block in the engine`;
  });
}
