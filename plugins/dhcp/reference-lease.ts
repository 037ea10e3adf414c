import { CniError, ErrorCode } from "#cni/error.ts";
import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import type { CheckRequest, DelRequest } from "#cni/plugin.ts";
import { defaultDaemonSocket, isDaemonThere, releaseByDaemon } from "#dhcp/reference-daemon.ts";
import { formatCidr } from "#net/cidr.ts";
import type { PluginHost } from "#plugins/context.ts";

/** The daemon answers at once, or hangs. */
const timeoutMs = 2000;

type Request = Pick<CheckRequest, "config" | "containerId" | "ifName">;

/**
 * Whether the attachment was made by the reference's plugins: none of ours has made it an interface. Then the lease is
 * kept by the reference's daemon.
 */
export function isReferences({ config, containerId, ifName }: Request, { journal }: PluginHost): boolean {
  return journal.read({ network: config.name, containerId, ifName }, config.type) === undefined;
}

/**
 * Of such a lease only the daemon knows, and it can't be asked without giving another; that it runs is all that can be
 * told. Whether the container has the address is for the interface's plugin to see.
 * @throws {CniError} 999 where it does not run
 */
export async function checkReferenceLease(request: CheckRequest): Promise<void> {
  const path = socketOf(request);
  if (await isDaemonThere(path, timeoutMs)) return;
  const addresses = request.prevResult.ips.map(({ address }) => formatCidr(address)).join(", ");
  throw new CniError(ErrorCode.Internal, `there is no DHCP lease for ${request.ifName}`, {
    details: `nor does the daemon of another dhcp plugin answer at ${JSON.stringify(path)}, which would keep that of ${addresses} for a container that was attached before: attach it anew`,
  });
}

/** Has the daemon give the lease back, if it runs. A failure keeps no container from going. */
export async function giveBackReferenceLease(request: DelRequest, host: PluginHost): Promise<void> {
  const { config, containerId, ifName, netns, args } = request;
  const key = { network: config.name, containerId, ifName };
  try {
    const call = {
      containerId,
      netns: netns?.path ?? "",
      ifName,
      args: args.map(([name, value]) => `${name}=${value}`).join(";"),
      config: config.json,
    };
    if (await releaseByDaemon(socketOf(request), call, { timeoutMs }))
      host.log.info("the reference's dhcp daemon has given a lease back, if it had one", key);
  } catch (error) {
    host.log.warn("the reference's dhcp daemon goes on keeping a lease, until the server ends it", {
      ...key,
      error: String(error),
    });
  }
}

function daemonSocketIn(json: JsonObject): unknown {
  const ipam = field(json, "ipam");
  return isJsonObject(ipam) ? field(ipam, "daemonSocketPath") : undefined;
}

function socketOf({ config }: Pick<Request, "config">): string {
  const path = daemonSocketIn(config.json);
  return typeof path === "string" && path !== "" ? path : defaultDaemonSocket;
}
