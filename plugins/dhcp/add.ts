import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { acquireLease, type ClientIdentity, releaseLease } from "#dhcp/client.ts";
import { DhcpError } from "#dhcp/error.ts";
import type { Lease } from "#dhcp/lease.ts";
import type { LeaseStore, StoredLease } from "#dhcp/lease-store.ts";
import { LinkPort } from "#dhcp/link-port.ts";
import { secondsSinceBoot } from "#dhcp/uptime.ts";
import { changeLink, type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { type DhcpConfig, parseDhcpConfig } from "./config.ts";
import { resultOf } from "./result.ts";
import { openLeases, requireService } from "./service.ts";

/** Asks the servers on the interface's network for an address. */
export async function add(request: AddRequest, host: PluginHost): Promise<CniResult> {
  const config = parseDhcpConfig(request.config, request);
  await requireService(host);
  using namespace = host.kernel.open(request.netns.path);
  const link = requireInterface(namespace, request.ifName);
  const leases = openLeases(host);
  const lease = await obtain({ request, config, host, namespace, link, leases });
  return resultOf(lease, config.priority);
}

/** @throws {CniError} 4 */
function requireInterface(namespace: NetworkNamespace, ifName: string): Link & { readonly mac: string } {
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
  return { ...link, mac: link.mac };
}

interface Work {
  readonly request: AddRequest;
  readonly config: DhcpConfig;
  readonly host: PluginHost;
  readonly namespace: NetworkNamespace;
  readonly link: Link;
  readonly leases: LeaseStore;
}

async function obtain({ request, config, host, namespace, link, leases }: Work): Promise<Lease> {
  const key = { network: request.config.name, containerId: request.containerId, ifName: request.ifName };
  const before = leases.read(key);
  const identity = identify(config, link);
  const { dev, ino } = namespace;
  const intent: StoredLease = {
    key,
    netns: { path: request.netns.path, dev, ino },
    bootId: host.bootId,
    hostNamespace: host.hostNamespace,
    identity,
    lease: undefined,
  };
  leases.write(intent);
  crashPoint("dhcp-begun");
  using port = LinkPort.open(namespace.fd, link.ifindex);
  try {
    const lease = await acquireLease(port, identity, {
      timeoutMs: config.timeoutMs,
      signal: request.signal,
      now: secondsSinceBoot,
      address: before?.lease?.address.address,
    });
    crashPoint("dhcp-acknowledged");
    if (request.signal.aborted) releaseLease(port, identity, lease);
    request.signal.throwIfAborted();
    leases.write({ ...intent, lease });
    return lease;
  } catch (error) {
    leases.remove(key);
    throw explained(error, link);
  }
}

/** A link that has its MAC address in common with others hears only what is for its own IP address. */
function identify({ broadcast, requested, provided }: DhcpConfig, link: Link): ClientIdentity {
  if (link.mac === undefined) throw new TypeError("Cannot ask for a lease without a MAC address");
  return { mac: link.mac, broadcast: broadcast ?? link.kind === "ipvlan", requested, provided };
}

function explained(error: unknown, { name, mac }: Link): unknown {
  if (!(error instanceof DhcpError)) return error;
  const code = error.isTemporary ? ErrorCode.TryAgainLater : ErrorCode.InvalidEnvironment;
  return new CniError(code, `Cannot get an address by DHCP on ${name} (${mac}): ${error.message}`, {
    cause: error,
  });
}
