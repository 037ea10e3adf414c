import { Gauge, Registry } from "prom-client";
import { readSysctl } from "#kernel/sysctl.ts";
import { measureSubnets, readAddressUse } from "#netctl/ipam/address-use.ts";
import { describeNetwork } from "#netctl/network/listing.ts";
import { publishedPortsIn } from "#netctl/port-text.ts";
import { suiteVersion } from "#netctl/version.ts";
import type { World } from "#netctl/world.ts";
import { callNetd, NetdUnavailable } from "#netd/client.ts";
import { metricsRequestName } from "#netd/protocol.ts";
import { readOverlayStatus } from "#overlay/status-file.ts";

/** netd answers at once, or is in trouble: whoever scrapes shall hear of the rest even so. */
const netdTimeoutMs = 2000;

/** What this host's networks are now, and what its netd has counted since it was started. */
export async function collectMetrics(
  world: World,
): Promise<{ readonly text: string; readonly contentType: string }> {
  const registry = new Registry();
  const gauge = (name: string, help: string, labelNames: readonly string[] = []) =>
    new Gauge({ name, help, labelNames, registers: [registry] });
  gauge("netctl_build_info", "Always 1", ["version"]).set({ version: suiteVersion }, 1);
  await measureNetworks(world, gauge);
  measureConnections(world, gauge);
  measureOverlay(world, gauge);
  const counted = await askNetd(world);
  gauge("netctl_netd_up", "1 where netd answers").set(counted === undefined ? 0 : 1);
  return { text: `${await registry.metrics()}${counted ?? ""}`, contentType: registry.contentType };
}

type MakeGauge = (name: string, help: string, labelNames?: readonly string[]) => Gauge;

async function measureNetworks(world: World, gauge: MakeGauge): Promise<void> {
  const { networks, problems } = await world.networks.load();
  gauge("netctl_networks", "Networks that are configured").set(networks.length);
  gauge("netctl_configuration_problems", "Files of networks that can't be used").set(problems.length);
  const capacity = gauge("netctl_pool_addresses", "Addresses that containers can have", [
    "network",
    "subnet",
  ]);
  const used = gauge("netctl_pool_addresses_used", "Of these, the ones given out", ["network", "subnet"]);
  const leaked = gauge("netctl_pool_addresses_leaked", "Of these, the ones whose container is gone", [
    "network",
    "subnet",
  ]);
  for (const network of networks.map(describeNetwork)) {
    const use = await readAddressUse(network, world);
    for (const each of use === undefined ? [] : measureSubnets(use)) {
      const labels = { network: network.name, subnet: each.subnet };
      capacity.set(labels, Number(each.capacity));
      used.set(labels, Number(each.used));
      leaked.set(labels, each.leaked);
    }
  }
  const records = world.journal.list();
  const attachments = gauge("netctl_attachments", "Interfaces of containers by the journal", ["network"]);
  const keys = new Map(
    records.map(({ key }) => [`${key.network} ${key.containerId} ${key.ifName}`, key.network] as const),
  );
  for (const network of keys.values()) attachments.inc({ network });
  const published = records.filter(({ plugin }) => plugin === "portmap");
  gauge("netctl_ports_published", "Ports of the host that lead to containers").set(
    publishedPortsIn(published, []).length,
  );
}

function measureConnections({ kernel }: World, gauge: MakeGauge): void {
  const read = (name: string) => Number(readSysctl(kernel.namespace, `net/netfilter/${name}`) ?? Number.NaN);
  gauge("netctl_conntrack_entries", "Connections that the kernel tracks").set(read("nf_conntrack_count"));
  gauge("netctl_conntrack_entries_limit", "How many it can").set(read("nf_conntrack_max"));
}

function measureOverlay({ directories }: World, gauge: MakeGauge): void {
  const status = readOverlayStatus(directories.run);
  if (status === undefined) return;
  gauge("netctl_engine_connected", "1 where the cluster's engine answers").set(status.connected ? 1 : 0);
  gauge("netctl_engine_away_seconds", "Since when it has not").set(status.awayMs / 1000);
  gauge("netctl_engine_revision", "The last one that is known here").set(status.revision);
  gauge("netctl_engine_status_age_seconds", "Since when the agent has said nothing").set(status.ageMs / 1000);
  gauge("netctl_overlay_problems", "Sentences of the agent's, which netctl cluster status shows").set(
    status.problems.length,
  );
}

async function askNetd({ directories, environment }: World): Promise<string | undefined> {
  try {
    const { exitCode, stdout } = await callNetd({
      runDirectory: directories.run,
      environment,
      name: metricsRequestName,
      stdin: "",
      timeoutMs: netdTimeoutMs,
    });
    return exitCode === 0 ? stdout : undefined;
  } catch (error) {
    if (error instanceof NetdUnavailable) return undefined;
    throw error;
  }
}
