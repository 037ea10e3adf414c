import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { encodeResult } from "#cni/result-versions.ts";
import { newestVersion } from "#cni/version.ts";
import { changeLink, readEachLink } from "#kernel/link.ts";
import { ensureLocalnetRouting, readLinkTowards } from "#kernel/localnet.ts";
import { readSysctl } from "#kernel/sysctl.ts";
import { Undo } from "#kernel/undo.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { PublishedPorts } from "#nftables/ports.ts";
import type { PluginHost } from "#plugins/context.ts";
import { type Attachment, describeAttachment } from "./attachment.ts";
import { parsePortmapConfig } from "./config.ts";
import { forgetFlowsBefore } from "./flows.ts";
import { refuseTakenByListeners } from "./listeners.ts";
import { encodeMade } from "./made.ts";
import { publishOrTakeOver } from "./publish.ts";
import { releaseAttachment } from "./release.ts";
import { hostInterfaces, readRoutedFamilies } from "./routed.ts";
import { addOwnRules, mappedPorts, removeRules, sourceElements } from "./rules.ts";

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parsePortmapConfig(request.config);
  const { prevResult } = request.config;
  if (!prevResult) {
    throw new CniError(ErrorCode.InvalidNetworkConfig, "must be called as chained plugin", {
      details: "portmap needs a prevResult, from the plugins before it in the list",
    });
  }
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const hasMappings = config.mappings.length > 0;
  const routedFamilies = hasMappings ? await readRoutedFamilies(prevResult, host) : [];
  const attachment = describeAttachment({ config, key, prevResult, routedFamilies });
  await refuseTakenByListeners(unconditional(attachment), key.containerId, host);
  // An ADD that was killed, or a container that is started again without a DEL in between.
  if (host.journal.read(key, "portmap")) await releaseAttachment(key, host);
  const { published, routed } = attachment;
  if (published.length > 0 || routed.length > 0) await attach(attachment, { request, prevResult, host });
  return prevResult;
}

/** With conditions, some of what comes for the port may well be for the process that listens on it. */
function unconditional({ published, conditions }: Attachment): readonly PublishedPorts[] {
  return published.filter(({ container }) => conditions[container.family].length === 0);
}

interface Work {
  readonly request: AddRequest;
  readonly prevResult: CniResult;
  readonly host: PluginHost;
}

async function attach(attachment: Attachment, { request, prevResult, host }: Work): Promise<void> {
  const { key, published } = attachment;
  const { namespace } = host.kernel;
  const { prevResult: _, ...json } = request.config.json;
  await Undo.run(async (undo) => {
    const entry = await host.journal.begin(
      {
        key,
        plugin: "portmap",
        netns: request.netns,
        config: json,
        args: request.args,
        made: encodeMade(attachment),
      },
      { durable: false },
    );
    undo.push("journal record", (failures) => {
      // What could not be taken back is for the next DEL or GC, which needs the record.
      if (failures.length === 0) entry.remove();
    });
    request.signal.throwIfAborted();
    undo.push("published ports", () => removeRules(attachment, key, host));
    await host.nftables.apply(sourceElements(attachment, key));
    crashPoint("hairpin-added");
    await publishOrTakeOver(mappedPorts(attachment), key, host);
    crashPoint("ports-published");
    await addOwnRules(attachment, key, host);
    crashPoint("port-rules-added");
    // Only now that the rules are there, which keep packets to 127.0.0.1 from outside off the host.
    for (const { address } of attachment.hairpin) {
      const link = readLinkTowards(namespace, address);
      if (address.family === 4 && link) ensureLocalnetRouting(namespace, link);
    }
    allowHairpin(attachment, prevResult, host);
    await forgetFlowsBefore(published, host);
    entry.complete(encodeResult(prevResult, newestVersion));
  });
}

const bridgeFilters = { 4: "net/bridge/bridge-nf-call-iptables", 6: "net/bridge/bridge-nf-call-ip6tables" };

/**
 * Where bridges hand their frames to the firewall, a container's packet to its own published port is translated on the
 * bridge already, and has to leave through the very port that it came in by.
 */
function allowHairpin({ hairpin }: Attachment, prevResult: CniResult, host: PluginHost): void {
  const { namespace } = host.kernel;
  const isNeeded = hairpin.some(
    ({ address }) => readSysctl(namespace, bridgeFilters[address.family]) === "1",
  );
  if (!isNeeded) return;
  for (const link of readEachLink(namespace, hostInterfaces(prevResult))) {
    // The bridge's own veths, as for the gateway of a VLAN, have their other end in the host.
    const leadsToContainer = link?.kind === "veth" && link.parentNamespaceId !== undefined;
    if (leadsToContainer && link.bridgePort?.hairpin === false) {
      changeLink(namespace, link.ifindex, { bridgePort: { hairpin: true } });
    }
  }
}
