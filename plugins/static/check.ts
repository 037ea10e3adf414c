import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import { formatCidr } from "#net/cidr.ts";
import { equalIp } from "#net/ip.ts";
import { parseStaticConfig } from "./config.ts";

/** Every address of the configuration is in the result, with its gateway where the configuration has one. */
export async function check(request: CheckRequest): Promise<void> {
  for (const { address, gateway } of parseStaticConfig(request.config, request.args).addresses) {
    const found = request.prevResult.ips.some(
      (ip) =>
        equalIp(ip.address.address, address.address) &&
        (!gateway || (ip.gateway !== undefined && equalIp(ip.gateway, gateway))),
    );
    if (!found) {
      throw new CniError(
        ErrorCode.Internal,
        `static: Failed to match addr ${formatCidr(address)} on interface ${request.ifName}`,
      );
    }
  }
}
