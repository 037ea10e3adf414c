import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import * as v from "valibot";
import { type Bundle, readBundle, readPid } from "./bundle.ts";
import type { Container } from "./container.ts";
import type { Supervisor } from "./supervisor.ts";

/**
 * The containers of containerd's shims, of whatever client: bundles stand in STATE/io.containerd.runtime.v2.task/
 * NAMESPACE/ID, and the containers of a pod, which share a shim, stand beside each other.
 */
export function listShimContainers(supervisors: readonly Supervisor[]): readonly Container[] {
  const directories = supervisors
    .filter(({ kind }) => kind === "containerd-shim")
    .map(({ workingDirectory }) => dirname(workingDirectory));
  return [...new Set(directories)].flatMap((directory) => {
    const namespace = basename(directory);
    return listNames(directory).flatMap((id) => {
      const bundle = readBundle(join(directory, id));
      const pid = readPid(join(directory, id, "init.pid"));
      return bundle === undefined || pid === undefined ? [] : [describe(namespace, id, pid, bundle)];
    });
  });
}

function describe(namespace: string, id: string, pid: number, bundle: Bundle): Container {
  const { annotations } = bundle;
  if (namespace === "moby") return { runtime: "docker", id, pid, name: dockerName(id, bundle) ?? id };
  const nerdctlName = annotations["nerdctl/name"];
  if (nerdctlName) return { runtime: "nerdctl", id, pid, name: nerdctlName };
  const sandbox = annotations["io.kubernetes.cri.sandbox-name"];
  if (sandbox === undefined) return { runtime: "containerd", id, pid, name: id };
  const pod = `${annotations["io.kubernetes.cri.sandbox-namespace"] ?? "default"}/${sandbox}`;
  return { runtime: "cri", id, pid, pod, name: annotations["io.kubernetes.cri.container-name"] ?? sandbox };
}

const dockerSchema = v.object({ Name: v.string() });

/** Docker keeps the name in its own directory, from which it mounts /etc/resolv.conf into the container. */
function dockerName(id: string, { mounts }: Bundle): string | undefined {
  const own = mounts.find(({ source }) => basename(dirname(source)) === id);
  if (own === undefined) return undefined;
  try {
    const text = readFileSync(join(dirname(own.source), "config.v2.json"), "utf8");
    return v.parse(dockerSchema, JSON.parse(text)).Name.replace(/^\//, "");
  } catch {
    return undefined;
  }
}

function listNames(directory: string): readonly string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
