import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest, CheckRequest, NamespaceRef, Plugin } from "#cni/plugin.ts";
import type { CniInterface, CniIp, CniResult } from "#cni/result.ts";
import { cniVersions } from "#cni/version.ts";
import { type InventoryLink, readInventory } from "#kernel/inventory.ts";
import type { PluginHost } from "#plugins/context.ts";

/**
 * The driver for containers that share the host's network. Makes nothing; answers with the host's interfaces and
 * addresses, so that callers see one contract for all drivers.
 */
export const host: Plugin<PluginHost> = {
  name: "host",
  versions: cniVersions,
  hostNamespace: "required",

  async add(request: AddRequest, host) {
    return request.config.prevResult ?? describe(readInventory(host.kernel.namespace), request.netns);
  },

  async del() {
    // Nothing was made.
  },

  async check({ prevResult }: CheckRequest, host) {
    const present = new Set(readInventory(host.kernel.namespace).map(({ link }) => link.name));
    const gone = prevResult.interfaces.filter(({ name }) => !present.has(name)).map(({ name }) => name);
    if (gone.length > 0) {
      throw new CniError(ErrorCode.Internal, `Interfaces of the host are gone: ${gone.join(", ")}`);
    }
  },

  async gc() {
    // Nothing was made.
  },

  async status() {
    // A host always has its own network.
  },
};

function describe(inventory: readonly InventoryLink[], netns: NamespaceRef): CniResult {
  const interfaces: CniInterface[] = inventory.map(({ link }) => ({
    name: link.name,
    ...(link.mac === undefined ? {} : { mac: link.mac }),
    mtu: link.mtu,
    sandbox: netns.path,
  }));
  const ips: CniIp[] = inventory.flatMap(({ addresses }, index) =>
    addresses.map(({ address }) => ({ interface: index, address })),
  );
  return { interfaces, ips, routes: [], dns: {} };
}
