import type { CniResult } from "#cni/result.ts";
import { changeLink, readEachLink } from "#kernel/link.ts";
import { type IfName, ifNameProblem } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";

/**
 * The container's port of the bridge, unless it is kept from other such ports already. Frames between two ports of one
 * bridge pass no rule at all, but where bridges hand them to the firewall (`bridge-nf-call-iptables`).
 */
export function portToIsolate({ interfaces }: CniResult, host: PluginHost): IfName | undefined {
  const names = interfaces.flatMap(({ name, sandbox }) =>
    sandbox || ifNameProblem(name) ? [] : [name as IfName],
  );
  const port = readEachLink(host.kernel.namespace, names).find(
    // The bridge's own veths, as for the gateway of a VLAN, have their other end in the host.
    (link) =>
      link?.kind === "veth" && link.parentNamespaceId !== undefined && link.bridgePort?.isolated === false,
  );
  return port?.name as IfName | undefined;
}

/** Does nothing where the port is gone. @throws {NetlinkError} */
export function setIsolated(name: IfName, isolated: boolean, host: PluginHost): void {
  const { namespace } = host.kernel;
  const [link] = readEachLink(namespace, [name]);
  if (!link?.bridgePort || link.bridgePort.isolated === isolated) return;
  changeLink(namespace, link.ifindex, { bridgePort: { isolated } });
}

/** False where the port is there and others reach it. */
export function isIsolated(name: IfName, host: PluginHost): boolean {
  const [link] = readEachLink(host.kernel.namespace, [name]);
  return !link?.bridgePort || link.bridgePort.isolated === true;
}
