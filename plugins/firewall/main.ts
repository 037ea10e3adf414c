import { atLeast, cniVersions } from "#cni/version.ts";
import { withCniErrors } from "#plugins/failure.ts";
import type { SuitePlugin } from "#plugins/upkeep.ts";
import { add } from "./add.ts";
import { check } from "./check.ts";
import { del } from "./del.ts";
import { gc } from "./gc.ts";
import { status } from "./status.ts";
import { upkeep } from "./upkeep.ts";

/** Lets a container's packets through the host, and keeps bridges and containers apart. */
export const firewall: SuitePlugin = {
  name: "firewall",
  // As the reference: before that there is no previous result to CHECK or DEL by.
  versions: cniVersions.filter((version) => atLeast(version, "0.4.0")),
  hostNamespace: "refused",
  add: (request, host) => withCniErrors(() => add(request, host)),
  del: (request, host) => withCniErrors(() => del(request, host)),
  check: (request, host) => withCniErrors(() => check(request, host)),
  gc: (request, host) => withCniErrors(() => gc(request, host)),
  status: (request, host) => withCniErrors(() => status(request, host)),
  upkeep,
};
