import { CniError, ErrorCode } from "#cni/error.ts";
import type { StatusRequest } from "#cni/plugin.ts";
import { IpamDelegate } from "#ipam/delegate.ts";
import { readBridge } from "#kernel/bridge.ts";
import { canForward } from "#kernel/forwarding.ts";
import { policyNumber } from "#nftables/network-policy.ts";
import type { PluginHost } from "#plugins/context.ts";
import { iptablesOf } from "#plugins/masquerade.ts";
import { describePolicy } from "./attachment.ts";
import { type BridgeConfig, parseBridgeConfig } from "./config.ts";

/** @throws {CniError} 7 for the configuration; 50 for what the host lacks; whatever the IPAM plugin says */
export async function status(request: StatusRequest, host: PluginHost): Promise<void> {
  const config = parseBridgeConfig(request.config);
  try {
    readBridge(host.kernel.namespace, config.bridge);
    if (needsNftables(config)) await host.nftables.usable();
    if (config.masquerade === "iptables") await (await iptablesOf(host, request.environment)).usable([4]);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new CniError(ErrorCode.PluginNotAvailable, message, { cause });
  }
  if ((config.isGateway || config.masquerade !== undefined) && config.ipamType !== undefined) {
    // Which families there will be, only the IPAM plugin knows; without IPv4 there may be IPv6.
    if (!canForward(host.kernel.namespace, 4) && !canForward(host.kernel.namespace, 6)) {
      throw new CniError(
        ErrorCode.PluginNotAvailable,
        "Cannot forward packets: net.ipv4.ip_forward is 0, and /proc/sys is read-only",
      );
    }
  }
  await new IpamDelegate(host.runner).status(request);
}

function needsNftables({ masquerade, macSpoofCheck, isolation }: BridgeConfig): boolean {
  return masquerade === "nftables" || macSpoofCheck || policyNumber(describePolicy(isolation)) !== 0;
}
