import type { HostKernel } from "#kernel/host-kernel.ts";
import { applySourceRouting, type RoutedLink } from "#kernel/source-routing.ts";
import { writeSysctls } from "#kernel/sysctl.ts";
import { parseIfName } from "#net/ifname.ts";
import type { SandboxRouting } from "#runtime/sandbox-parts.ts";

/** Routes of sandboxes by netlink. The one thing beside a bridge that netctl changes itself: no CNI verb can. */
export function sandboxRouting(kernel: HostKernel): SandboxRouting {
  return {
    apply(netns, { links, bySource }) {
      if (links.length === 0) return;
      const routed = links.map((link): RoutedLink => ({ ...link, ifName: parseIfName(link.ifName) }));
      using namespace = kernel.open(netns);
      applySourceRouting(namespace, routed, { bySource });
    },
    setSysctls(netns, sysctls) {
      const settings = Object.entries(sysctls).map(([key, value]) => ({ key, value }));
      if (settings.length === 0) return;
      using namespace = kernel.open(netns);
      writeSysctls(namespace, settings);
    },
  };
}
