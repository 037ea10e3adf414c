import type { Environment, Outcome, Plugin, VerbHost } from "#cni/plugin.ts";
import { runVerb } from "#cni/skel.ts";
import { resolveDirectories } from "#machine/directories.ts";
import { silentLog } from "#machine/log.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { hostLocal } from "#plugins/host-local/main.ts";
import { staticIpam } from "#plugins/static/main.ts";

/** A host for plugins that hand out addresses and touch nothing else. */
export function ipamHost(stateDirectory: string, bootId = "00000000-0000-0000-0000-000000000001") {
  return {
    hostNamespace: { dev: 0, ino: 0 },
    identifyNamespace,
    directories: resolveDirectories({}, { state: stateDirectory, run: `${stateDirectory}/run` }),
    bootId,
    log: silentLog,
  };
}

export interface IpamCall {
  readonly verb: string;
  readonly containerId?: string;
  readonly ifName?: string;
  readonly args?: string;
  readonly netns?: string;
}

/** CNI_* of one call; the namespace is the caller's own unless it is named. */
export function ipamEnvironment({
  verb,
  containerId = "c1",
  ifName = "eth0",
  args,
  netns,
}: IpamCall): Environment {
  return {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: containerId,
    CNI_IFNAME: ifName,
    CNI_NETNS: netns ?? "/proc/self/ns/net",
    CNI_PATH: "/nonexistent",
    ...(args === undefined ? {} : { CNI_ARGS: args }),
  };
}

export async function callHostLocal(
  stateDirectory: string,
  call: IpamCall & { readonly bootId?: string },
  config: object,
): Promise<Outcome> {
  return await callPlugin(hostLocal, ipamHost(stateDirectory, call.bootId), call, config);
}

export async function callStatic(call: IpamCall, config: object): Promise<Outcome> {
  return await callPlugin(staticIpam, ipamHost("/nonexistent"), call, config);
}

async function callPlugin<Host extends VerbHost>(
  plugin: Plugin<Host>,
  host: Host,
  call: IpamCall,
  config: object,
): Promise<Outcome> {
  return await runVerb(plugin, { environment: ipamEnvironment(call), stdin: JSON.stringify(config) }, host);
}
