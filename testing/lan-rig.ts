import type { Plugin } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { InterfaceRig } from "./interface-rig.ts";
import type { TestHostOptions } from "./plugin-host.ts";
import { TestNamespace } from "./test-namespace.ts";

/**
 * A host with an uplink, `up0` (10.1.0.250), to a wire on which another machine is: `lan0` (10.1.0.1) in a namespace of
 * its own. The host's default route leads there.
 */
export class LanRig extends InterfaceRig {
  readonly lan: TestNamespace;

  constructor(plugin: Plugin<PluginHost>, options: TestHostOptions = {}) {
    super(plugin, options);
    this.lan = TestNamespace.create("lan");
    const eager = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad";
    this.lan.run(eager);
    this.namespace.run(`${eager}; ip link add up0 type veth peer name lan0 netns ${this.lan.name}
      ip addr add 10.1.0.250/24 dev up0; ip addr add fd00:1::250/64 dev up0 nodad; ip link set up0 up`);
    this.lan.run(
      "ip addr add 10.1.0.1/24 dev lan0; ip addr add fd00:1::1/64 dev lan0 nodad; ip link set lan0 up",
    );
    // The kernel's own addresses come a little later, which would look like something that a plugin has changed.
    for (const each of [this.namespace, this.lan]) {
      each.run("until ip -6 addr show scope link -tentative | grep -q fe80; do :; done");
    }
    this.namespace.run("ip route add default via 10.1.0.1");
  }

  override async close(): Promise<void> {
    await super.close();
    this.lan.remove();
  }
}
