import type { AnyRequest, Plugin, VerbHost } from "#cni/plugin.ts";
import { type CniResult, emptyResult } from "#cni/result.ts";
import { cniVersions } from "#cni/version.ts";
import { parseCidr } from "#net/cidr.ts";

export const oneAddress: CniResult = { ...emptyResult, ips: [{ address: parseCidr("10.1.2.3/24") }] };

export interface TrivialPlugin extends Plugin<VerbHost> {
  /** Every request that came through the door, in order. */
  readonly requests: AnyRequest[];
}

/** A plugin that touches nothing and answers ADD with its prevResult or one address; each part can be replaced. */
export function trivialPlugin(parts: Partial<Plugin<VerbHost>> = {}): TrivialPlugin {
  const requests: AnyRequest[] = [];
  const record = (request: AnyRequest): Promise<void> => {
    requests.push(request);
    return Promise.resolve();
  };
  return {
    name: "trivial",
    versions: cniVersions,
    hostNamespace: "refused",
    add: async (request) => {
      await record(request);
      return request.config.prevResult ?? oneAddress;
    },
    del: record,
    check: record,
    gc: record,
    status: record,
    ...parts,
    requests,
  };
}

/** /host is the host's namespace, /invalid is no namespace, /gone and "" are missing, all else is a container's. */
export const trivialHost: VerbHost = {
  hostNamespace: { dev: 4, ino: 1 },
  identifyNamespace(path) {
    if (path === "/host") return { dev: 4, ino: 1 };
    if (path === "/invalid") return "invalid";
    return path === "" || path === "/gone" ? "missing" : { dev: 4, ino: 2 };
  },
};
