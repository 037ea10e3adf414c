import type { Plugin, VerbHost } from "#cni/plugin.ts";
import { cniVersions } from "#cni/version.ts";
import { check } from "./check.ts";
import { parseStaticConfig } from "./config.ts";

/** IPAM: the addresses that the configuration names. Nothing is recorded, so nothing has to be taken back. */
export const staticIpam: Plugin<VerbHost> = {
  name: "static",
  versions: cniVersions,
  // It touches no namespace: who delegates decides.
  hostNamespace: "unused",
  async add(request) {
    const { addresses, routes, dns } = parseStaticConfig(request.config, request.args);
    return { interfaces: [], ips: addresses, routes, dns };
  },
  async del() {},
  check,
  async gc() {},
  async status(request) {
    parseStaticConfig(request.config, []);
  },
};
