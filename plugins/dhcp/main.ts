import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest, DelRequest, GcRequest, Plugin, StatusRequest } from "#cni/plugin.ts";
import { cniVersions } from "#cni/version.ts";
import type { LeaseProtocol } from "#dhcp/lease-protocol.ts";
import type { LeaseKey } from "#dhcp/lease-store.ts";
import type { LeaseTimes } from "#dhcp/lease-times.ts";
import { secondsSinceBoot } from "#dhcp/uptime.ts";
import { dhcp4 } from "#dhcp/v4/protocol.ts";
import { dhcp6 } from "#dhcp/v6/protocol.ts";
import { equalIp, type IpAddress } from "#net/ip.ts";
import type { PluginHost } from "#plugins/context.ts";
import { withCniErrors } from "#plugins/failure.ts";
import { add } from "./add.ts";
import { parseDhcpConfig } from "./config.ts";
import { checkReferenceLease, giveBackReferenceLease, isReferences } from "./reference-lease.ts";
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

async function del(request: DelRequest, host: PluginHost): Promise<void> {
  const { config, containerId, ifName } = request;
  const key = { network: config.name, containerId, ifName };
  const isOurs = hasLease(key, host);
  await giveBack(key, host);
  if (!isOurs && isReferences(request, host)) await giveBackReferenceLease(request, host);
}

function hasLease(key: LeaseKey, host: PluginHost): boolean {
  const [four, six] = [openLeases(dhcp4.format, host).read(key), openLeases(dhcp6.format, host).read(key)];
  return four !== undefined || six !== undefined;
}

/** @throws {CniError} 999 for a lease that is gone, over, or another one than the container has */
async function check(request: CheckRequest, host: PluginHost): Promise<void> {
  const { config, containerId, ifName, args, prevResult } = request;
  const key = { network: config.name, containerId, ifName };
  const has = (ip: IpAddress) => prevResult.ips.some(({ address }) => equalIp(address.address, ip));
  const { ipv4, ipv6 } = parseDhcpConfig(config, { containerId, ifName, args });
  // The reference's daemon knows nothing of DHCPv6.
  if (ipv4 && !hasLease(key, host) && isReferences(request, host)) return await checkReferenceLease(request);
  if (ipv4) checkLease(dhcp4, key, host, (lease) => has(lease.address.address));
  if (ipv6) checkLease(dhcp6, key, host, ({ addresses }) => addresses.every(({ address }) => has(address)));
}

function checkLease<Identity, Lease extends { readonly times: LeaseTimes }>(
  protocol: LeaseProtocol<Identity, Lease>,
  key: LeaseKey,
  host: PluginHost,
  isInUse: (lease: Lease) => boolean,
): void {
  const { name, format } = protocol;
  const lease = openLeases(format, host).read(key)?.lease;
  if (!lease) throw new CniError(ErrorCode.Internal, `there is no ${name} lease for ${key.ifName}`);
  const what = protocol.describe(lease);
  if (secondsSinceBoot() >= lease.times.expiresAt) {
    throw new CniError(ErrorCode.Internal, `the ${name} lease of ${what} has expired`);
  }
  if (isInUse(lease)) return;
  throw new CniError(
    ErrorCode.Internal,
    `the ${name} lease is of ${what}, which is not among the container's addresses`,
  );
}

async function gc({ config, validAttachments: valid }: GcRequest, host: PluginHost): Promise<void> {
  if (!valid) return;
  const { name } = config;
  const keys = [...openLeases(dhcp4.format, host).keys(name), ...openLeases(dhcp6.format, host).keys(name)];
  for (const key of keys) {
    const isValid = valid.some((each) => each.containerId === key.containerId && each.ifName === key.ifName);
    if (!isValid) await giveBack(key, host);
  }
}

/** @throws {CniError} 7 for the configuration; 50 where nobody would extend leases */
async function status({ config }: StatusRequest, host: PluginHost): Promise<void> {
  parseDhcpConfig(config, { containerId: "", ifName: "", args: [] });
  await requireService(host);
}
