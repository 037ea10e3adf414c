import type { CniInterface, CniResult } from "#cni/result.ts";
import { removeUnnamedChild } from "#kernel/child-link.ts";
import { announce, configureInterface, waitForAddresses } from "#kernel/interface.ts";
import { changeLink, type Link, readLink, removeLink, requireLink } from "#kernel/link.ts";
import { WaitTimeoutError } from "#kernel/wait.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { IfName } from "#net/ifname.ts";
import { openAttachmentNamespace } from "./attachment-namespace.ts";
import type { PluginHost } from "./context.ts";
import { type Departing, intact } from "./departing.ts";
import type { Making } from "./interface-driver.ts";
import { describeIpConfiguration, refuseMtuBelowIpv6 } from "./ip-configuration.ts";

/** As a result shows it. @param sandbox path of the container's namespace; absent for a link of the host */
export function describeInterface(link: Link, sandbox?: string): CniInterface {
  return {
    name: link.name,
    ...(link.mac === undefined ? {} : { mac: link.mac }),
    mtu: link.mtu,
    ...(sandbox === undefined ? {} : { sandbox }),
  };
}

const addressTimeoutMs = 5_000;

/**
 * Sets the container's interface up with what the IPAM plugin gave, tells the neighbours, and answers with it as the
 * only interface of the result; without an IPAM plugin, sets it up and no more.
 * @param options.duplicateAddressDetection for interfaces on a network where others may have the address
 * @throws {DuplicateAddressError}
 */
export async function setUpContainerLink(
  { container, ifName, request }: Pick<Making<unknown, unknown>, "container" | "ifName" | "request">,
  ipam: Pick<CniResult, "ips" | "routes"> | undefined,
  options: {
    /** As it reads after "Cannot use": `macvlan configuration` */
    readonly what: string;
    readonly ipamType: string | undefined;
    readonly duplicateAddressDetection: boolean;
    readonly dns: CniResult["dns"];
    /** See `configureInterface()`. */
    readonly addressesFirst?: boolean;
  },
): Promise<CniResult> {
  const { path: sandbox } = request.netns;
  if (!ipam) {
    changeLink(container, ifName, { up: true });
    const link = requireLink(container, ifName);
    return { interfaces: [describeInterface(link, sandbox)], ips: [], routes: [], dns: options.dns };
  }
  const { ipamType, duplicateAddressDetection } = options;
  const { ips, routes, addresses, kernelRoutes } = describeIpConfiguration(ipam, {
    interfaceIndex: 0,
    ipamType,
  });
  const before = requireLink(container, ifName);
  refuseMtuBelowIpv6(before.mtu, ips, options.what);
  const link = configureInterface(
    container,
    { ifindex: before.ifindex, name: ifName },
    {
      addresses,
      routes: kernelRoutes,
      duplicateAddressDetection,
      addressesFirst: options.addressesFirst === true,
    },
  );
  crashPoint("interface-configured");
  try {
    await waitForAddresses(container, link, addresses, {
      timeoutMs: addressTimeoutMs,
      signal: request.signal,
    });
  } catch (error) {
    // Without a carrier there is nobody to ask, and nobody who would answer.
    const isUp = readLink(container, link.ifindex)?.operState === "up";
    if (!(error instanceof WaitTimeoutError) || (duplicateAddressDetection && isUp)) throw error;
  }
  announce(container, link);
  return { interfaces: [describeInterface(link, sandbox)], ips, routes, dns: options.dns };
}

/**
 * Removes the interface that the attachment has in the container, if there is one of that kind. Without a record only
 * where the result that the runtime kept names it, and no other attachment has recorded it.
 * @returns the link as it was
 */
export async function removeContainerLink(
  departing: Departing,
  host: PluginHost,
  kind: string,
): Promise<Link | undefined> {
  const container = openAttachmentNamespace(host, departing.record, departing.netns);
  if (!container) return undefined;
  try {
    const name = departing.key.ifName as IfName;
    // An ADD that has ended has named it.
    const started = intact(departing.record);
    if (started && started.phase !== "done") await removeUnnamedChild(container, { name, kind });
    const link = readLink(container, name);
    if (link?.kind !== kind || !isOwn(departing, host)) return undefined;
    await removeLink(container, link.ifindex);
    return link;
  } finally {
    container.close();
  }
}

/** Whether the interface named in the request is certain to be this attachment's. */
export function isOwn({ key, record, prevResult }: Departing, host: PluginHost): boolean {
  if (intact(record)) return true;
  const isNamed = prevResult?.interfaces.some(({ name, sandbox }) => name === key.ifName && sandbox) ?? false;
  const { network, containerId, ifName } = key;
  return isNamed && host.journal.networksOf(containerId, ifName).every((other) => other === network);
}
