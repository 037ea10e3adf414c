import { CniError, ErrorCode } from "#cni/error.ts";
import type { AddRequest, CheckRequest, DelRequest, Plugin } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { cniVersions } from "#cni/version.ts";
import { readLoopback, setLoopback } from "#kernel/loopback.ts";
import { NamespaceError } from "#kernel/namespace-error.ts";
import { formatCidr } from "#net/cidr.ts";
import { isLoopback } from "#net/ip.ts";
import type { PluginHost } from "./context.ts";

/**
 * A plugin that brings `lo` up and makes nothing. It ignores CNI_IFNAME, as there is no other loopback interface.
 * It refuses the host's namespace, where DEL would take the host's own loopback down.
 */
export function loopbackPlugin(name: string): Plugin<PluginHost> {
  return {
    name,
    versions: cniVersions,
    hostNamespace: "refused",
    add,
    del,
    check,
    async gc() {
      // Nothing is left of an attachment but the `lo` of its own namespace.
    },
    async status() {
      // Needs nothing but a namespace.
    },
  };
}

async function add({ config, netns }: AddRequest, host: PluginHost): Promise<CniResult> {
  using namespace = host.kernel.open(netns);
  const before = readLoopback(namespace);
  const foreign = before.addresses.find(({ address }) => !isLoopback(address.address));
  if (foreign) {
    throw new CniError(
      ErrorCode.Internal,
      `Cannot use loopback interface: it has the non-loopback address ${formatCidr(foreign.address)}`,
    );
  }
  if (!before.link.up) setLoopback(namespace, true);
  if (config.prevResult) return config.prevResult;
  const { link, addresses } = readLoopback(namespace);
  return {
    interfaces: [
      { name: link.name, mac: link.mac ?? "00:00:00:00:00:00", mtu: link.mtu, sandbox: netns.path },
    ],
    ips: addresses.map(({ address }) => ({ interface: 0, address })),
    routes: [],
    dns: {},
  };
}

async function del({ netns }: DelRequest, host: PluginHost): Promise<void> {
  if (!netns) return;
  try {
    using namespace = host.kernel.open(netns);
    setLoopback(namespace, false);
  } catch (error) {
    // It went between being looked at and being opened: so has its `lo`.
    if (!(error instanceof NamespaceError)) throw error;
  }
}

async function check({ netns }: CheckRequest, host: PluginHost): Promise<void> {
  using namespace = host.kernel.open(netns);
  if (!readLoopback(namespace).link.up) throw new CniError(ErrorCode.Internal, "loopback interface is down");
}
