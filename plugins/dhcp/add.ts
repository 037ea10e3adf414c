import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { DhcpError } from "#dhcp/error.ts";
import type { LeaseProtocol } from "#dhcp/lease-protocol.ts";
import type { StoredLease } from "#dhcp/lease-store.ts";
import type { LeaseTimes } from "#dhcp/lease-times.ts";
import { secondsSinceBoot } from "#dhcp/uptime.ts";
import { acquireLease, type ClientIdentity, releaseLease } from "#dhcp/v4/client.ts";
import type { Lease as Lease4 } from "#dhcp/v4/lease.ts";
import { LinkPort } from "#dhcp/v4/link-port.ts";
import { dhcp4 } from "#dhcp/v4/protocol.ts";
import { releaseLease as releaseLease6 } from "#dhcp/v6/conversation.ts";
import { DatagramPort } from "#dhcp/v6/datagram-port.ts";
import type { Lease as Lease6 } from "#dhcp/v6/lease.ts";
import { waitForLinkLocal } from "#dhcp/v6/link-local.ts";
import { obtainLease } from "#dhcp/v6/obtain.ts";
import { dhcp6 } from "#dhcp/v6/protocol.ts";
import { changeLink, type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { type DhcpConfig, type Ipv4Config, type Ipv6Config, parseDhcpConfig } from "./config.ts";
import { giveBack } from "./release.ts";
import { resultOf } from "./result.ts";
import { openLeases, requireService } from "./service.ts";

/** Asks the servers on the interface's network for addresses. */
export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseDhcpConfig(request.config, request);
  await requireService(host);
  using namespace = host.kernel.open(request.netns.path);
  const link = requireInterface(namespace, request.ifName);
  const leases = await obtainAll({ request, config, host, namespace, link });
  return resultOf(leases, config);
}

/** @throws {CniError} 4 */
function requireInterface(namespace: NetworkNamespace, ifName: string): Link {
  const link = readLink(namespace, parseIfName(ifName));
  if (!link) {
    throw new CniError(
      ErrorCode.InvalidEnvironment,
      `Cannot get an address by DHCP: there is no interface ${JSON.stringify(ifName)} in ${namespace.path}`,
      { details: "the plugin that asks dhcp for an address has to make the interface before" },
    );
  }
  if (link.mac === undefined) {
    throw new CniError(
      ErrorCode.InvalidEnvironment,
      `Cannot get an address by DHCP: interface ${JSON.stringify(ifName)} has no Ethernet address`,
    );
  }
  if (!link.up) changeLink(namespace, link.ifindex, { up: true });
  return link;
}

interface Work {
  readonly request: AddRequest;
  readonly config: DhcpConfig;
  readonly host: PluginHost;
  readonly namespace: NetworkNamespace;
  readonly link: Link;
}

/** Leases of all families that are asked for, at the same time; or none. */
async function obtainAll(
  work: Work,
): Promise<{ readonly ipv4: Lease4 | undefined; readonly ipv6: Lease6 | undefined }> {
  const { request, config, host } = work;
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const failed = new AbortController();
  const signal = AbortSignal.any([request.signal, failed.signal]);
  const { ipv4, ipv6 } = config;
  let first: unknown;
  // The others need not go on: what they got would be given back.
  const stopOthers = (error: unknown) => {
    first ??= error;
    failed.abort();
    return undefined;
  };
  const leases = await Promise.all([
    ipv4 && obtain(work, dhcp4, ipv4Lease(work, ipv4, signal)).catch(stopOthers),
    ipv6 && obtain(work, dhcp6, ipv6Lease(work, ipv6, signal)).catch(stopOthers),
  ]);
  if (first !== undefined) {
    if (leases.some(Boolean)) await giveBack(key, host);
    throw first;
  }
  return { ipv4: leases[0], ipv6: leases[1] };
}

/** One protocol's part of an ADD. */
interface Acquisition<Identity, Lease> {
  readonly identity: Identity;
  readonly signal: AbortSignal;
  /** @param before what the attachment had, and would like again */
  acquire(before: Lease | undefined): Promise<Lease>;
  release(lease: Lease): void;
  close(): void;
}

async function obtain<Identity, Lease extends { readonly times: LeaseTimes }>(
  { request, config, host, namespace, link }: Work,
  protocol: LeaseProtocol<Identity, Lease>,
  acquisition: Acquisition<Identity, Lease>,
): Promise<Lease> {
  const { identity, signal } = acquisition;
  const leases = openLeases(protocol.format, host);
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const before = leases.read(key);
  const { dev, ino } = namespace;
  const intent: StoredLease<Identity, Lease> = {
    key,
    netns: { path: request.netns.path, dev, ino },
    bootId: host.bootId,
    hostNamespace: host.hostNamespace,
    isShared: config.ipv4 !== undefined && config.ipv6 !== undefined,
    identity,
    lease: undefined,
  };
  leases.write(intent);
  crashPoint("dhcp-begun");
  try {
    const lease = await acquisition.acquire(before?.lease);
    crashPoint("dhcp-acknowledged");
    if (signal.aborted) acquisition.release(lease);
    signal.throwIfAborted();
    leases.write({ ...intent, lease });
    return lease;
  } catch (error) {
    leases.remove(key);
    throw explained(error, protocol.name, link);
  } finally {
    acquisition.close();
  }
}

function ipv4Lease(
  { config, namespace, link }: Work,
  { broadcast, requested, provided }: Ipv4Config,
  signal: AbortSignal,
): Acquisition<ClientIdentity, Lease4> {
  if (link.mac === undefined) throw new TypeError("Cannot ask for a lease without a MAC address");
  // A link that has its MAC address in common with others hears only what is for its own IP address.
  const identity = { mac: link.mac, broadcast: broadcast ?? link.kind === "ipvlan", requested, provided };
  const port = LinkPort.open(namespace.fd, link.ifindex);
  return {
    identity,
    signal,
    acquire: (before) =>
      acquireLease(port, identity, {
        timeoutMs: config.timeoutMs,
        signal,
        now: secondsSinceBoot,
        address: before?.address.address,
      }),
    release: (lease) => releaseLease(port, identity, lease),
    close: () => port.close(),
  };
}

function ipv6Lease(
  { config, namespace, link }: Work,
  { identity, duplicateAddressDetection }: Ipv6Config,
  signal: AbortSignal,
): Acquisition<Ipv6Config["identity"], Lease6> {
  let port: DatagramPort | undefined;
  return {
    identity,
    signal,
    async acquire(before) {
      const deadlineMs = performance.now() + config.timeoutMs;
      const source = await waitForLinkLocal(namespace, link, { timeoutMs: config.timeoutMs, signal });
      port = DatagramPort.open(namespace.fd, link.ifindex, source);
      return await obtainLease({ namespace, link, port }, identity, {
        timeoutMs: Math.max(deadlineMs - performance.now(), 0),
        signal,
        now: secondsSinceBoot,
        duplicateAddressDetection,
        ...(before ? { addresses: before.addresses } : {}),
      });
    },
    release(lease) {
      if (port) releaseLease6(port, identity, lease);
    },
    close: () => port?.close(),
  };
}

function explained(error: unknown, protocol: string, { name, mac }: Link): unknown {
  if (!(error instanceof DhcpError)) return error;
  const code = error.isTemporary ? ErrorCode.TryAgainLater : ErrorCode.InvalidEnvironment;
  return new CniError(code, `Cannot get an address by ${protocol} on ${name} (${mac}): ${error.message}`, {
    cause: error,
  });
}
