import type { Plugin } from "#cni/plugin.ts";
import { cniVersions } from "#cni/version.ts";
import type { PluginHost } from "#plugins/context.ts";
import { withCniErrors } from "#plugins/failure.ts";
import { add } from "./add.ts";
import { check } from "./check.ts";
import { del } from "./del.ts";
import { gc } from "./gc.ts";
import { status } from "./status.ts";

/** Puts the interface that another plugin has given a container into a VRF, a routing domain of its own. */
export const vrf: Plugin<PluginHost> = {
  name: "vrf",
  versions: cniVersions,
  hostNamespace: "refused",
  add: (request, host) => withCniErrors(() => add(request, host)),
  del: (request, host) => withCniErrors(() => del(request, host)),
  check: (request, host) => withCniErrors(() => check(request, host)),
  gc: (request, host) => withCniErrors(() => gc(request, host)),
  status: (request, host) => withCniErrors(() => status(request, host)),
};
