import type { NamespaceIdentity } from "#cni/plugin.ts";
import { listConmonContainers } from "./conmon.ts";
import type { Container } from "./container.ts";
import { listShimContainers } from "./containerd.ts";
import { listSupervisors } from "./supervisor.ts";

/**
 * The running containers of every runtime on one host, read from /proc and from their bundles: no daemon is asked, so that one
 * which hangs hides nothing.
 */
export function listContainers(host: NamespaceIdentity): readonly Container[] {
  const supervisors = listSupervisors(host);
  return [...listShimContainers(supervisors), ...listConmonContainers(supervisors)];
}
