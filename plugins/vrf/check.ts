import { CniError, ErrorCode } from "#cni/error.ts";
import type { CheckRequest } from "#cni/plugin.ts";
import { readLink } from "#kernel/link.ts";
import { readVrf } from "#kernel/vrf.ts";
import { parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "#plugins/context.ts";
import { parseVrfConfig } from "./config.ts";

/** @throws {CniError} 999 with what is not as it should be */
export async function check(request: CheckRequest, host: PluginHost): Promise<void> {
  const { name, table } = parseVrfConfig(request.config);
  using namespace = host.kernel.open(request.netns);
  const vrf = readVrf(namespace, name);
  if (!vrf || vrf === "other") throw failed(`there is no VRF ${JSON.stringify(name)}`);
  if (table !== undefined && vrf.table !== table) {
    throw failed(`VRF ${JSON.stringify(name)} has table ${vrf.table}, not ${table}`);
  }
  const link = readLink(namespace, parseIfName(request.ifName));
  if (!link) throw failed(`there is no interface ${JSON.stringify(request.ifName)}`);
  if (link.master !== vrf.ifindex) {
    throw failed(`interface ${JSON.stringify(request.ifName)} is not in VRF ${JSON.stringify(name)}`);
  }
}

function failed(problem: string): CniError {
  return new CniError(ErrorCode.Internal, problem);
}
