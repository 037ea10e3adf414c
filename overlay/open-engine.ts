import type { Engine } from "#engine/engine.ts";
import { EtcdEngine } from "#engine/etcd/etcd.ts";
import type { EtcdSettings } from "#engine/etcd/settings.ts";
import { KubernetesEngine } from "#engine/kubernetes/kubernetes.ts";
import type { HostSettings } from "./host-settings.ts";

/** Settings of an engine that several processes may use: the embedded one is netd's alone. */
export type RemoteEngine = Exclude<HostSettings["engine"], { kind: "local" }>;

/** @throws {EngineError} for settings that can't be right */
export function openEngine(settings: RemoteEngine): Engine {
  if (settings.kind === "kubernetes") {
    const { server, namespace, tokenFile, caFile } = settings;
    return new KubernetesEngine({
      server,
      namespace,
      ...(tokenFile !== undefined && { tokenFile }),
      ...(caFile !== undefined && { caFile }),
    });
  }
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
