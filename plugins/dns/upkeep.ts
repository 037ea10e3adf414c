import type { IntactRecord } from "#journal/record.ts";
import { NamespaceError } from "#kernel/namespace-error.ts";
import { addResolverRedirect, hasResolverRedirect } from "#nftables/resolver-redirect.ts";
import type { PluginHost } from "#plugins/context.ts";
import type { Upkeep } from "#plugins/upkeep.ts";

/** What a flush in the container takes away, and how it is put back. On the host there is nothing of this plugin. */
export const upkeep: Upkeep = {
  needs: (record) => ({ elements: [], rules: portOf(record) !== undefined && record.netns !== undefined }),
  async missingRules(record, host) {
    return inContainer(record, host, (fd, port) =>
      hasResolverRedirect(fd, port)
        ? []
        : [`table ip netctl_dns in container ${record.key.containerId}, which leads to the resolver`],
    );
  },
  async restoreRules(record, host) {
    inContainer(record, host, (fd, port) => {
      if (!hasResolverRedirect(fd, port)) addResolverRedirect(fd, port);
      return [];
    });
  },
};

/** Of the resolver, in the container's namespace; undefined in a record of something else. */
function portOf({ made }: IntactRecord): number | undefined {
  const port = typeof made === "object" && made !== null && "port" in made ? made["port"] : undefined;
  return typeof port === "number" ? port : undefined;
}

/** Empty where the container is gone: nobody misses anything there. */
function inContainer(
  record: IntactRecord,
  host: PluginHost,
  act: (namespaceFd: number, port: number) => readonly string[],
): readonly string[] {
  const port = portOf(record);
  const { netns } = record;
  if (port === undefined || !netns) return [];
  try {
    const namespace = host.kernel.open(netns);
    try {
      return act(namespace.fd, port);
    } finally {
      namespace.close();
    }
  } catch (error) {
    if (error instanceof NamespaceError) return [];
    throw error;
  }
}
