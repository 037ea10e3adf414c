import type { CniResult } from "#cni/result.ts";
import { createMacvlan } from "#kernel/child-link.ts";
import { removeLink } from "#kernel/link.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { randomMac } from "#net/mac.ts";
import { setUpContainerLink } from "#plugins/container-link.ts";
import type { Addition, Making } from "#plugins/interface-driver.ts";
import { refuseMtuAbove } from "#plugins/mtu.ts";
import { ensureParent, planParent } from "#plugins/parent-link.ts";
import type { MacvlanConfig } from "./config.ts";
import { grantHostAccess, introduceHost } from "./host-access.ts";
import type { Made } from "./made.ts";

const what = "macvlan configuration";

export function plan({ config, container, key, host }: Addition<MacvlanConfig>): Made {
  const parent = planParent(config.parent, { host, container, network: key.network });
  // In mode passthru it is the master's, whoever says what.
  const mac = config.mac ?? (config.mode === "passthru" ? undefined : randomMac());
  return { parent, ...(mac === undefined ? {} : { mac }) };
}

export async function connect(work: Making<MacvlanConfig, Made>): Promise<void> {
  const { config, made, key, ifName, container, host, undo } = work;
  const user = { key, plugin: "macvlan" };
  const surroundings = { host, container, network: key.network };
  const parent = await ensureParent(made.parent, { ...surroundings, user, undo });
  refuseMtuAbove(parent, config.mtu, what);
  const { mode, mtu, broadcastQueueLength } = config;
  createMacvlan(made.parent.inContainer ? container : host.kernel.namespace, {
    name: ifName,
    parent,
    namespace: container,
    mode,
    mac: made.mac,
    broadcastQueueLength,
    ...(mtu === undefined ? {} : { mtu }),
  });
  undo.push(`link ${JSON.stringify(ifName)}`, async () => void (await removeLink(container, ifName)));
  crashPoint("macvlan-made");
}

export async function configure(
  work: Making<MacvlanConfig, Made>,
  ipam: CniResult | undefined,
): Promise<CniResult> {
  const { config } = work;
  const { ipamType, duplicateAddressDetection } = config;
  if (config.hostAccess && ipam) await grantHostAccess(work, ipam.ips);
  const result = await setUpContainerLink(work, ipam, {
    what,
    ipamType,
    duplicateAddressDetection,
    dns: config.dns ?? ipam?.dns ?? {},
  });
  introduceHost(work, result.ips);
  return result;
}
