import type { Plugin } from "#cni/plugin.ts";
import { cniVersions } from "#cni/version.ts";
import { add } from "./add.ts";
import { check } from "./check.ts";
import { del } from "./del.ts";
import { gc } from "./gc.ts";
import type { HostLocalHost } from "./host.ts";
import { status } from "./status.ts";

/** IPAM: gives out addresses of configured ranges, with what is given out in files on this host. */
export const hostLocal: Plugin<HostLocalHost> = {
  name: "host-local",
  versions: cniVersions,
  // It touches no namespace: who delegates decides.
  hostNamespace: "unused",
  add,
  del,
  check,
  gc,
  status,
};
