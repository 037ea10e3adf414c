import { cniVersions } from "#cni/version.ts";
import { withCniErrors } from "#plugins/failure.ts";
import type { SuitePlugin } from "#plugins/upkeep.ts";
import { add } from "./add.ts";
import { check } from "./check.ts";
import { del } from "./del.ts";
import { gc } from "./gc.ts";
import { status } from "./status.ts";
import { upkeep } from "./upkeep.ts";

/** Connects containers to a bridge of the host by a veth pair each. */
export const bridge: SuitePlugin = {
  name: "bridge",
  versions: cniVersions,
  hostNamespace: "refused",
  add: (request, host) => withCniErrors(() => add(request, host)),
  del: (request, host) => withCniErrors(() => del(request, host)),
  check: (request, host) => withCniErrors(() => check(request, host)),
  gc: (request, host) => withCniErrors(() => gc(request, host)),
  status: (request, host) => withCniErrors(() => status(request, host)),
  upkeep,
};
