import { join } from "node:path";
import type { Engine } from "#engine/engine.ts";
import { EtcdEngine } from "#engine/etcd/etcd.ts";
import type { EtcdSettings } from "#engine/etcd/settings.ts";
import { LocalEngine } from "#engine/local.ts";
import type { HostSettings } from "./host-settings.ts";

/**
 * @param directory the overlay's; the embedded engine keeps its file there, and only one process may have it open
 * @throws {EngineError} for settings that can't be right @throws {IoError}
 */
export async function openEngine(settings: HostSettings["engine"], directory: string): Promise<Engine> {
  if (settings.kind === "local") return await LocalEngine.open(join(directory, "engine"));
  const { endpoints, tls, user } = settings;
  const etcd: EtcdSettings = {
    endpoints,
    ...(tls && {
      tls: {
        ...(tls.ca !== undefined && { ca: tls.ca }),
        ...(tls.cert !== undefined && { cert: tls.cert }),
        ...(tls.key !== undefined && { key: tls.key }),
      },
    }),
    ...(user && { user }),
  };
  return new EtcdEngine(etcd);
}
