import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import type { CniInterface } from "#cni/result.ts";
import { IpamDelegate } from "#ipam/delegate.ts";
import { readAddresses } from "#kernel/address.ts";
import { isPromiscuous, readBridge } from "#kernel/bridge.ts";
import { forwards } from "#kernel/forwarding.ts";
import { type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { equalCidr, formatCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { hostVethName } from "#plugins/host-veth.ts";
import { checkedInterface, interfaceProblems } from "#plugins/interface-problems.ts";
import { iptablesOf } from "#plugins/masquerade.ts";
import { referenceRules } from "#plugins/reference-rules.ts";
import { type Attachment, describeAttachment } from "./attachment.ts";
import { type BridgeConfig, parseBridgeConfig } from "./config.ts";
import { attachmentElements } from "./elements.ts";
import { decodeMade, type Made, madeOf } from "./made.ts";

/** @throws {CniError} 999 with everything that is not as it should be */
export async function check(request: CheckRequest, host: PluginHost): Promise<void> {
  const config = parseBridgeConfig(request.config, request.args);
  await new IpamDelegate(host.runner).check(request);
  const { made, attachment, inside } = expectation(request, config, host);
  const container = host.kernel.open(request.netns);
  try {
    const problems = [
      ...hostProblems(attachment, made, container, host),
      ...containerProblems(attachment, inside, container),
      ...(made
        ? await elementProblems(request, { ...made, ...policyOf(attachment) }, host)
        : await unrecordedProblems(request, { ...madeOf(attachment), ...policyOf(attachment) }, host)),
    ];
    if (problems.length > 0) throw new CniError(ErrorCode.Internal, problems.join("; "));
  } finally {
    container.close();
  }
}

/** The attachment as ADD would make it today, with the addresses that it got then. */
function expectation(request: CheckRequest, config: BridgeConfig, host: PluginHost) {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const made = decodeMade(host.journal.read(key, "bridge"));
  const { inside, mac, own } = checkedInterface(request);
  const attachment = describeAttachment({
    config,
    key,
    ifName: parseIfName(request.ifName),
    hostVeth: made?.hostVeth ?? hostVethName(key),
    macs: { host: made?.hostMac ?? mac, container: mac },
    ipam: config.ipamType === undefined ? undefined : own,
  });
  return { made, attachment, inside };
}

/** Of the whole network, which may have been changed since this attachment was made. */
function policyOf({ device, policy }: Attachment): Pick<Made, "device" | "policy"> {
  return { device, policy };
}

function hostProblems(
  attachment: Attachment,
  made: Made | undefined,
  container: NetworkNamespace,
  host: PluginHost,
): readonly string[] {
  const { namespace } = host.kernel;
  const name = JSON.stringify(attachment.bridge.name);
  const bridge = readBridge(namespace, attachment.bridge.name);
  if (!bridge) return [`bridge ${name} is gone`];
  const problems: string[] = [];
  if (!bridge.up) problems.push(`bridge ${name} is down`);
  if (attachment.bridge.promiscuous && !isPromiscuous(bridge)) {
    problems.push(`bridge ${name} is not promiscuous`);
  }
  if (attachment.bridge.vlanFiltering && bridge.bridge?.vlanFiltering !== true) {
    problems.push(`bridge ${name} does not filter VLANs`);
  }
  problems.push(
    ...portProblems(attachment, { bridge, made, container, namespace }),
    ...gatewayProblems(attachment, bridge, namespace),
  );
  for (const family of attachment.forwarding) {
    if (!forwards(namespace, family)) problems.push(`the host does not forward IPv${family}`);
  }
  return problems;
}

function portProblems(
  attachment: Attachment,
  work: {
    readonly bridge: Link;
    readonly made: Made | undefined;
    readonly container: NetworkNamespace;
    readonly namespace: NetworkNamespace;
  },
): readonly string[] {
  const inside = readLink(work.container, attachment.container.name);
  // An attachment of the reference plugin has another name for its port: the container's end leads to it.
  const ref = work.made ? attachment.hostVeth.name : (inside?.parent ?? attachment.hostVeth.name);
  const port = readLink(work.namespace, ref);
  const name = JSON.stringify(port?.name ?? attachment.hostVeth.name);
  if (port?.kind !== "veth") return [`the host's end of the veth, ${name}, is gone`];
  const problems: string[] = [];
  if (inside && (port.parent !== inside.ifindex || inside.parent !== port.ifindex)) {
    problems.push(`veth ${name} does not lead to ${JSON.stringify(attachment.container.name)}`);
  }
  if (port.master !== work.bridge.ifindex) {
    problems.push(`veth ${name} is not a port of bridge ${JSON.stringify(attachment.bridge.name)}`);
  }
  if (!port.up) problems.push(`veth ${name} is down`);
  // Only where we have set it: udev may have changed one that the kernel drew (systemd's MACAddressPolicy).
  if (work.made && port.mac !== work.made.hostMac) {
    problems.push(`veth ${name} has MAC address ${port.mac} instead of ${work.made.hostMac}`);
  }
  for (const flag of ["hairpin", "isolated"] as const) {
    if (attachment.port[flag] && port.bridgePort?.[flag] !== true) {
      problems.push(`veth ${name} is without ${flag}`);
    }
  }
  return problems;
}

function gatewayProblems(
  attachment: Attachment,
  bridge: Link,
  namespace: NetworkNamespace,
): readonly string[] {
  const { gateway } = attachment;
  if (!gateway) return [];
  const link = gateway.vlan ? readLink(namespace, gateway.vlan.name) : bridge;
  if (!link) return [`the gateway's interface ${JSON.stringify(gateway.vlan?.name)} is gone`];
  const present = readAddresses(namespace, link.ifindex);
  return gateway.addresses
    .filter((wanted) => !present.some(({ address }) => equalCidr(address, wanted)))
    .map((wanted) => `${JSON.stringify(link.name)} is without the gateway address ${formatCidr(wanted)}`);
}

function containerProblems(
  { container: { name, up }, interface: { addresses, routes } }: Attachment,
  expected: CniInterface | undefined,
  container: NetworkNamespace,
): readonly string[] {
  const { mac } = expected ?? {};
  return interfaceProblems(container, { name, kind: "veth", up, mac, addresses, routes }).problems;
}

/** Of an attachment without a record: rules of ours, or those that the reference plugin has made for it. */
async function unrecordedProblems(
  request: CheckRequest,
  wanted: Made,
  host: PluginHost,
): Promise<readonly string[]> {
  const problems = await elementProblems(request, wanted, host);
  if (problems.length === 0) return problems;
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const theirs = await referenceRules(host, request.environment);
  const rest = {
    ...wanted,
    ...((await theirs.hasMasquerade(key)) ? { masquerade: [] } : {}),
    ...((await theirs.hasSpoofCheck(key)) ? { macSpoofCheck: false } : {}),
  };
  return await elementProblems(request, rest, host);
}

async function elementProblems(
  request: CheckRequest,
  made: Made,
  host: PluginHost,
): Promise<readonly string[]> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const differences = await host.nftables.differences(attachmentElements(made, key));
  const problems = differences.map(({ message }) => `nftables: ${message}`);
  if (made.masqueradeBackend !== "iptables" || made.masquerade.length === 0) return problems;
  const missing = await (await iptablesOf(host, request.environment)).missing({
    network: key.network,
    containerId: key.containerId,
    addresses: made.masquerade,
  });
  return [...problems, ...missing.map((rule) => `missing: ${rule}`)];
}
