import type { CniInterface } from "#cni/result.ts";
import { moveDevice, readDevice } from "#kernel/device.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { setUpContainerLink } from "#plugins/container-link.ts";
import type { InterfaceDriver } from "#plugins/interface-driver.ts";
import { interfaceProblems } from "#plugins/interface-problems.ts";
import { describeIpConfiguration } from "#plugins/ip-configuration.ts";
import { type HostDeviceConfig, parseHostDeviceConfig, requireDevice } from "./config.ts";
import { bringHome } from "./give-back.ts";
import { decodeMade, encodeMade, isTaken, type Made } from "./made.ts";
import { removeAttachment } from "./remove.ts";
import { requireFree } from "./require-free.ts";

export const hostDeviceDriver: InterfaceDriver<HostDeviceConfig, Made> = {
  name: "host-device",
  parse: parseHostDeviceConfig,
  encodeMade,
  decodeMade,

  plan: ({ config, host }) => requireFree(requireDevice(config), host),

  connect({ made, container, ifName, host, undo }) {
    const { device } = made;
    if (!device) return;
    const { namespace } = host.kernel;
    const present = readDevice(namespace, made.ifindex);
    if (!present) throw new Error(`Cannot use device ${JSON.stringify(device.name)}: it has just gone`);
    undo.push(`device ${JSON.stringify(device.name)}`, () => {
      const inside = readDevice(container, ifName);
      // The name may be somebody else's, and the device not have been moved.
      if (inside && inside.alias === device.name) bringHome(container, inside, namespace, device);
    });
    // Its name is written on it, as the reference plugin does it: either can undo the other's work.
    moveDevice(namespace, present, container, { name: ifName, alias: device.name });
    crashPoint("device-moved");
  },

  async configure(work, ipam) {
    const { config, made, ifName, request } = work;
    const { pciId, device } = made;
    const dns = config.dns ?? ipam?.dns ?? {};
    const pci = pciId === undefined ? {} : { pciId };
    if (!device) {
      const inside: CniInterface = { name: ifName, sandbox: request.netns.path, ...pci };
      const { ips, routes } = describeIpConfiguration(ipam ?? { ips: [], routes: [] }, {
        interfaceIndex: 0,
        ipamType: config.ipamType,
      });
      return { interfaces: [inside], ips, routes, dns };
    }
    const result = await setUpContainerLink(work, ipam, {
      what: "host-device configuration",
      ipamType: config.ipamType,
      duplicateAddressDetection: true,
      dns,
    });
    return { ...result, interfaces: result.interfaces.map((each) => ({ ...each, ...pci })) };
  },

  problems({ config, ifName, container, made, checked }) {
    const { inside, own } = checked;
    // A program drives the hardware: there is no interface to look at.
    if (made ? !made.device : inside !== undefined && inside.mac === undefined) return [];
    const { addresses, kernelRoutes: routes } = describeIpConfiguration(
      config.ipamType === undefined ? { ips: [], routes: [] } : own,
      { interfaceIndex: 0, ipamType: config.ipamType },
    );
    const expected = { name: ifName, up: true, mac: inside?.mac, addresses, routes };
    const { link, problems } = interfaceProblems(container, expected);
    const device = link && made?.device ? readDevice(container, ifName) : undefined;
    if (!device || !made?.device || isTaken(device, made.device)) return problems;
    const name = JSON.stringify(made.device.name);
    return [...problems, `container interface ${JSON.stringify(ifName)} is not the device ${name}`];
  },

  remove: removeAttachment,

  status() {
    // Not whether the device is free: one container has it all the time, which is what the network is for.
  },
};
