import * as v from "valibot";
import { goObject } from "#cni/schema.ts";
import { cidr, ip } from "#cni/schema-values.ts";
import type { AttachmentKey, IntactRecord } from "#journal/record.ts";
import { readAddresses } from "#kernel/address.ts";
import { forgetUntranslatedFlows } from "#kernel/conntrack.ts";
import { readEachLink } from "#kernel/link.ts";
import { type Cidr, equalCidr, formatCidr } from "#net/cidr.ts";
import type { PluginHost } from "#plugins/context.ts";
import { iptablesOf } from "#plugins/masquerade.ts";
import { needsNothing, type Upkeep } from "#plugins/upkeep.ts";
import { attachmentElements } from "./elements.ts";
import { decodeMade, type Made } from "./made.ts";

/** What firewalls and their reloads take away of this plugin's attachments, and how it is put back. */
export const upkeep: Upkeep = {
  needs(record) {
    const made = decodeMade(record);
    if (!made) return needsNothing;
    return {
      elements: attachmentElements(made, record.key),
      rules: iptablesAttachment(made, record.key) !== undefined,
    };
  },
  async missingRules(record, host) {
    const made = decodeMade(record);
    const attachment = made && iptablesAttachment(made, record.key);
    if (!attachment) return [];
    return await (await iptablesOf(host, {})).missing(attachment);
  },
  async restoreRules(record, host) {
    const made = decodeMade(record);
    const attachment = made && iptablesAttachment(made, record.key);
    if (attachment) await (await iptablesOf(host, {})).add(attachment);
  },
  linkProblems,
  async restored(records, host) {
    const sources = records.flatMap((record) => decodeMade(record)?.masquerade ?? []);
    try {
      await forgetUntranslatedFlows(
        host.kernel.namespace,
        sources.map(({ address }) => address),
      );
    } catch (error) {
      // A kernel that can't be asked for its connections masquerades the next ones all the same.
      host.log.warn("cannot forget connections that were not masqueraded", {
        error: error instanceof Error ? error.message : String(error),
      });
    }
  },
};

function iptablesAttachment(made: Made, { network, containerId }: AttachmentKey) {
  if (made.masqueradeBackend !== "iptables" || made.masquerade.length === 0) return undefined;
  return { network, containerId, addresses: made.masquerade };
}

function linkProblems(record: IntactRecord, host: PluginHost): readonly string[] {
  const made = decodeMade(record);
  if (!made) return [];
  const { namespace } = host.kernel;
  const [bridge, port] = readEachLink(namespace, [made.bridge, made.hostVeth]);
  const bridgeName = JSON.stringify(made.bridge);
  const portName = JSON.stringify(made.hostVeth);
  const problems: string[] = [];
  if (!bridge) problems.push(`bridge ${bridgeName} is gone`);
  else if (!bridge.up) problems.push(`bridge ${bridgeName} is down`);
  if (!port) problems.push(`veth ${portName} is gone`);
  else {
    if (bridge && port.master !== bridge.ifindex) {
      problems.push(`veth ${portName} is not a port of bridge ${bridgeName}`);
    }
    if (!port.up) problems.push(`veth ${portName} is down`);
  }
  return [...problems, ...gatewayProblems(record, made, host)];
}

const gatewaySettings = goObject({
  isGateway: v.optional(v.boolean(), false),
  isDefaultGateway: v.optional(v.boolean(), false),
});
const addressed = goObject({
  ips: v.optional(v.array(goObject({ address: cidr, gateway: v.exactOptional(ip) })), []),
});

/** The gateway's addresses are shared by all attachments, so no record has them; configuration and result do. */
function gatewayProblems(record: IntactRecord, made: Made, host: PluginHost): readonly string[] {
  const settings = v.safeParse(gatewaySettings, record.config);
  const result = v.safeParse(addressed, record.result);
  if (!settings.success || !result.success) return [];
  if (!settings.output.isGateway && !settings.output.isDefaultGateway) return [];
  const name = made.vlanGateway?.name ?? made.bridge;
  const [link] = readEachLink(host.kernel.namespace, [name]);
  if (!link) return made.vlanGateway ? [`the gateway's interface ${JSON.stringify(name)} is gone`] : [];
  const present = readAddresses(host.kernel.namespace, link.ifindex);
  const wanted = result.output.ips.flatMap(({ address, gateway }): readonly Cidr[] =>
    gateway ? [{ address: gateway, prefixLength: address.prefixLength }] : [],
  );
  return wanted
    .filter((each) => !present.some(({ address }) => equalCidr(address, each)))
    .map((each) => `${JSON.stringify(name)} is without the gateway address ${formatCidr(each)}`);
}
