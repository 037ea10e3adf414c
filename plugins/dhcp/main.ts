import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest, DelRequest, GcRequest, Plugin, StatusRequest } from "#cni/plugin.ts";
import { cniVersions } from "#cni/version.ts";
import { secondsSinceBoot } from "#dhcp/uptime.ts";
import { formatCidr } from "#net/cidr.ts";
import { equalIp } from "#net/ip.ts";
import type { PluginHost } from "#plugins/context.ts";
import { withCniErrors } from "#plugins/failure.ts";
import { add } from "./add.ts";
import { parseDhcpConfig } from "./config.ts";
import { giveBack } from "./release.ts";
import { openLeases, requireService } from "./service.ts";

/** IPAM: addresses by DHCP, with leases that netd keeps. */
export const dhcp: Plugin<PluginHost> = {
  name: "dhcp",
  versions: cniVersions,
  // As an IPAM plugin: who delegates has decided; `add` opens it.
  hostNamespace: "unused",
  add: (request, host) => withCniErrors(() => add(request, host)),
  del: (request, host) => withCniErrors(() => del(request, host)),
  check: (request, host) => withCniErrors(() => check(request, host)),
  gc: (request, host) => withCniErrors(() => gc(request, host)),
  status: (request, host) => withCniErrors(() => status(request, host)),
};

async function del({ config, containerId, ifName }: DelRequest, host: PluginHost): Promise<void> {
  await giveBack({ network: config.name, containerId, ifName }, host);
}

/** @throws {CniError} 999 for a lease that is gone, over, or another one than the container has */
async function check(
  { config, containerId, ifName, prevResult }: CheckRequest,
  host: PluginHost,
): Promise<void> {
  const lease = openLeases(host).read({ network: config.name, containerId, ifName })?.lease;
  if (!lease) throw new CniError(ErrorCode.Internal, `there is no DHCP lease for ${ifName}`);
  if (secondsSinceBoot() >= lease.times.expiresAt) {
    throw new CniError(ErrorCode.Internal, `the DHCP lease of ${formatCidr(lease.address)} has expired`);
  }
  if (prevResult.ips.some(({ address }) => equalIp(address.address, lease.address.address))) return;
  throw new CniError(
    ErrorCode.Internal,
    `the DHCP lease is of ${formatCidr(lease.address)}, which is not among the container's addresses`,
  );
}

async function gc({ config, validAttachments: valid }: GcRequest, host: PluginHost): Promise<void> {
  if (!valid) return;
  for (const { key } of openLeases(host).list(config.name)) {
    const isValid = valid.some((each) => each.containerId === key.containerId && each.ifName === key.ifName);
    if (!isValid) await giveBack(key, host);
  }
}

/** @throws {CniError} 7 for the configuration; 50 where nobody would extend leases */
async function status({ config }: StatusRequest, host: PluginHost): Promise<void> {
  parseDhcpConfig(config, { containerId: "", ifName: "", args: [] });
  await requireService(host);
}
