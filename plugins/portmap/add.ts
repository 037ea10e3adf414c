import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { changeLink, readEachLink } from "#kernel/link.ts";
import { ensureLocalnetRouting, readLinkTowards } from "#kernel/localnet.ts";
import { readSysctl } from "#kernel/sysctl.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { PublishedPorts } from "#nftables/ports.ts";
import type { PluginHost } from "#plugins/context.ts";
import { keyOf, recordedWork, requirePrevResult } from "#plugins/recorded-work.ts";
import { type Attachment, describeAttachment } from "./attachment.ts";
import { parsePortmapConfig } from "./config.ts";
import { forgetFlowsBefore } from "./flows.ts";
import { removeHeir } from "./heirs.ts";
import { refuseTakenByListeners } from "./listeners.ts";
import { encodeMade } from "./made.ts";
import { publishOrTakeOver } from "./publish.ts";
import { releaseAttachment } from "./release.ts";
import { hostInterfaces, readRoutedFamilies } from "./routed.ts";
import { addOwnRules, mappedPorts, removeRules, sourceElements } from "./rules.ts";

export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parsePortmapConfig(request.config);
  const prevResult = requirePrevResult(request, "portmap", "must be called as chained plugin");
  const key = keyOf(request);
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
  const intent = { plugin: "portmap", made: encodeMade(attachment), result: prevResult };
  await recordedWork(request, host, intent, async (undo) => {
    undo.push("published ports", () => removeRules(attachment, key, host));
    undo.push("note of ports that another attachment has", () => removeHeir(key, host));
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
