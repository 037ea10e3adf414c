import { cniVersions } from "#cni/version.ts";
import { withCniErrors } from "#plugins/failure.ts";
import type { SuitePlugin } from "#plugins/upkeep.ts";
import { add } from "./add.ts";
import { check } from "./check.ts";
import { parseDnsConfig } from "./config.ts";
import { gc } from "./gc.ts";
import { releaseAttachment } from "./release.ts";
import { upkeep } from "./upkeep.ts";

/** Lets the containers of a network find each other by name, and forwards their other questions. */
export const dns: SuitePlugin = {
  name: "dns",
  versions: cniVersions,
  hostNamespace: "refused",
  upkeep,
  add: (request, host) => withCniErrors(() => add(request, host)),
  del: ({ config, containerId, ifName, netns }, host) =>
    withCniErrors(() => releaseAttachment({ network: config.name, containerId, ifName }, host, netns)),
  check: (request, host) => withCniErrors(() => check(request, host)),
  gc: (request, host) => withCniErrors(() => gc(request, host)),
  async status(request, host) {
    await withCniErrors(async () => {
      parseDnsConfig(request.config);
      await host.names.probe();
    });
  },
};
