import { CniError, ErrorCode } from "#cni/error.ts";
import { type Device, findDeviceByMac, readDevice } from "#kernel/device.ts";
import type { DeviceFiles } from "#kernel/device-files.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { IfName } from "#net/ifname.ts";
import type { DeviceSelector } from "./config.ts";

/** What a configuration's device is on this host, right now. */
export type FoundDevice =
  | { readonly kind: "network"; readonly device: Device; readonly pciId?: string }
  /** Bound to a driver that hands the hardware to a program: the kernel has no network device for it. */
  | { readonly kind: "userspace"; readonly pciId: string; readonly driver: string }
  /** The kernel shows none: it is in a container, or in no slot at all. */
  | { readonly kind: "absent" };

/** Drivers by which DPDK programs get at the hardware. */
const userspaceDrivers: readonly string[] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/**
 * Looks for the device in the host's namespace.
 * @throws {CniError} 7 where nothing can be meant by the selector
 * @throws {IoError}
 */
export async function findDevice(
  selector: DeviceSelector,
  host: { readonly namespace: NetworkNamespace; readonly files: DeviceFiles },
): Promise<FoundDevice> {
  const { namespace, files } = host;
  switch (selector.by) {
    case "name":
      return networkDevice(readDevice(namespace, selector.name as IfName));
    case "mac":
      return networkDevice(findDeviceByMac(namespace, selector.mac));
    case "path": {
      const folder = await files.find(selector.path);
      if (folder === undefined)
        throw missing(`"kernelpath" ${JSON.stringify(selector.path)}: there is no such folder`);
      return networkDevice(await firstIn(folder, host));
    }
    case "pci": {
      const folder = await files.findPci(selector.address);
      if (folder === undefined)
        throw missing(`"pciBusID" ${JSON.stringify(selector.address)}: there is no such PCI device`);
      return await pciDevice(folder, selector.address, host);
    }
    case "deviceId": {
      const { id } = selector;
      const pci = await files.findPci(id);
      if (pci !== undefined) return await pciDevice(pci, id, host);
      const auxiliary = await files.findAuxiliary(id);
      if (auxiliary !== undefined) return networkDevice(await firstIn(auxiliary, host));
      throw missing(`runtime config DeviceID ${id} not found or unsupported`);
    }
  }
}

function missing(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use host-device configuration: ${problem}`);
}

function networkDevice(device: Device | undefined): FoundDevice {
  if (!device) return { kind: "absent" };
  const pciId = device.parentBus === "pci" ? device.parentDevice : undefined;
  return { kind: "network", device, ...(pciId === undefined ? {} : { pciId }) };
}

async function pciDevice(
  folder: string,
  pciId: string,
  host: { readonly namespace: NetworkNamespace; readonly files: DeviceFiles },
): Promise<FoundDevice> {
  const driver = await host.files.driverOf(folder);
  if (driver !== undefined && userspaceDrivers.includes(driver)) return { kind: "userspace", pciId, driver };
  const device = await firstIn(folder, host);
  return device ? { kind: "network", device, pciId } : { kind: "absent" };
}

/** The first that is in the host's namespace, whatever /sys was mounted for. */
async function firstIn(
  folder: string,
  { namespace, files }: { readonly namespace: NetworkNamespace; readonly files: DeviceFiles },
): Promise<Device | undefined> {
  for (const name of await files.interfacesOf(folder)) {
    const device = readDevice(namespace, name as IfName);
    if (device) return device;
  }
  return undefined;
}

/** `device "eth1"`, as it reads in a sentence. */
export function describeSelector(selector: DeviceSelector): string {
  switch (selector.by) {
    case "name":
      return `device ${JSON.stringify(selector.name)}`;
    case "mac":
      return `device with "hwaddr" ${selector.mac}`;
    case "path":
      return `device with "kernelpath" ${JSON.stringify(selector.path)}`;
    case "pci":
      return `device with "pciBusID" ${JSON.stringify(selector.address)}`;
    case "deviceId":
      return `device with "runtimeConfig.deviceID" ${JSON.stringify(selector.id)}`;
  }
}
