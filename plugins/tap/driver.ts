import { CniError, ErrorCode } from "#cni/error.ts";
import { readBridge } from "#kernel/bridge.ts";
import { readDevice } from "#kernel/device.ts";
import { isSelinuxOn, runLabelledTap } from "#kernel/labelled-tap.ts";
import { changeLink, readLink, removeLink } from "#kernel/link.ts";
import { createTap, finishTap, type TapSpec } from "#kernel/tap.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { randomMac } from "#net/mac.ts";
import { removeContainerLink, setUpContainerLink } from "#plugins/container-link.ts";
import type { InterfaceDriver } from "#plugins/interface-driver.ts";
import { interfaceProblems } from "#plugins/interface-problems.ts";
import { describeIpConfiguration } from "#plugins/ip-configuration.ts";
import { parseTapConfig, type TapConfig } from "./config.ts";

/** The interface's name is the attachment's: there is nothing else to be remembered. */
type Made = Readonly<Record<string, never>>;

export const tapDriver: InterfaceDriver<TapConfig, Made> = {
  name: "tap",
  parse: parseTapConfig,
  encodeMade: (made) => made,
  decodeMade: () => ({}),

  plan({ config, container }) {
    const { bridge } = config;
    if (bridge !== undefined && !readBridge(container, bridge)) {
      throw new CniError(
        ErrorCode.InvalidNetworkConfig,
        `Cannot use tap configuration: "bridge" ${JSON.stringify(bridge)}: the container has no such interface`,
      );
    }
    return {};
  },

  async connect({ config, container, ifName, host, request, undo }) {
    const { multiQueue, owner, group, mtu, selinuxContext } = config;
    const spec: TapSpec = {
      name: ifName,
      multiQueue,
      ...(owner === undefined ? {} : { owner }),
      ...(group === undefined ? {} : { group }),
      ...(mtu === undefined ? {} : { mtu }),
      // One that the kernel draws may be changed by udev.
      mac: config.mac ?? randomMac(),
    };
    undo.push(`tap device ${JSON.stringify(ifName)}`, async () => {
      const link = readLink(container, ifName);
      if (link?.kind === "tun") await removeLink(container, link.ifindex);
    });
    if (selinuxContext !== undefined && (await isSelinuxOn(host.kernel.deviceFiles))) {
      await runLabelledTap(container, spec, {
        context: selinuxContext,
        searchPath: request.environment["PATH"],
      });
      finishTap(container, spec);
    } else {
      createTap(container, spec);
    }
    crashPoint("tap-made");
    const bridge = config.bridge === undefined ? undefined : readBridge(container, config.bridge);
    if (bridge) changeLink(container, ifName, { master: bridge.ifindex });
    crashPoint("tap-enslaved");
  },

  configure(work, ipam) {
    const { config } = work;
    return setUpContainerLink(work, ipam, {
      what: "tap configuration",
      ipamType: config.ipamType,
      duplicateAddressDetection: false,
      dns: config.dns ?? ipam?.dns ?? {},
    });
  },

  problems({ config, ifName, container, checked }) {
    const { addresses, kernelRoutes: routes } = describeIpConfiguration(
      config.ipamType === undefined ? { ips: [], routes: [] } : checked.own,
      { interfaceIndex: 0, ipamType: config.ipamType },
    );
    const { link, problems } = interfaceProblems(container, {
      name: ifName,
      kind: "tun",
      up: true,
      mac: checked.inside?.mac,
      addresses,
      routes,
    });
    const quoted = JSON.stringify(ifName);
    const more: string[] = [];
    const master = config.bridge === undefined ? undefined : readLink(container, config.bridge);
    if (link && config.bridge !== undefined && (!master || link.master !== master.ifindex))
      more.push(`${quoted} is not a port of bridge ${JSON.stringify(config.bridge)}`);
    const tun = link?.kind === "tun" ? readDevice(container, link.ifindex)?.tun : undefined;
    for (const key of ["owner", "group"] as const) {
      if (tun && config[key] !== undefined && tun[key] !== config[key])
        more.push(`${quoted} has ${key} ${tun[key] ?? "none"} instead of ${config[key]}`);
    }
    if (tun && config.multiQueue && tun.multiQueue !== true) more.push(`${quoted} has one queue only`);
    return [...problems, ...more];
  },

  async remove(departing, _made, host) {
    await removeContainerLink(departing, host, "tun");
  },

  status() {
    // The container's kernel is the host's.
  },
};
