import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniDns } from "#cni/result.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, mac } from "#cni/schema-values.ts";
import type { MacAddress } from "#net/mac.ts";
import { dnsField, ipamField, overridesIpam } from "#plugins/interface-arguments.ts";

/** By what the device is known. */
export type DeviceSelector =
  | { readonly by: "name"; readonly name: string }
  | { readonly by: "mac"; readonly mac: MacAddress }
  /** A folder below /sys/devices/. */
  | { readonly by: "path"; readonly path: string }
  | { readonly by: "pci"; readonly address: string }
  /** From the runtime's device plugin: a PCI address, or the name of a device of the auxiliary bus. */
  | { readonly by: "deviceId"; readonly id: string };

/** The network configuration with every contradiction refused. */
export interface HostDeviceConfig {
  /** Absent only where `deviceID` is for the runtime to say, and a verb does not need it. */
  readonly device?: DeviceSelector;
  /** Absent: the device comes without addresses. */
  readonly ipamType?: string;
  /** Set where the config's own `dns` replaces that of the IPAM plugin. */
  readonly dns?: CniDns;
}

/** An interface's name or one of its alternative names (ALTIFNAMSIZ, include/uapi/linux/if.h). */
const deviceName = v.pipe(
  v.string(),
  v.check(
    (text) => Buffer.byteLength(text) < 128 && !/[/\s]/.test(text) && text !== "." && text !== "..",
    "must be the name of a network interface",
  ),
);

const sysDevices = v.pipe(
  v.string(),
  v.check(
    (path) => path.startsWith("/sys/devices/") && !path.split("/").includes(".."),
    "must be absolute and begin with /sys/devices/",
  ),
);

/** What becomes a file's name in /sys. */
const busName = v.pipe(
  v.string(),
  v.check(
    (text) => /^[\w.:-]+$/.test(text) && !/^\.+$/.test(text),
    "must be the name of a device on its bus",
  ),
);

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  device: emptyAsAbsent(deviceName),
  hwaddr: emptyAsAbsent(mac),
  kernelpath: emptyAsAbsent(sysDevices),
  pciBusID: emptyAsAbsent(busName),
  ipam: ipamField,
  dns: dnsField,
});

const runtimeSchema = goObject({ deviceID: emptyAsAbsent(busName) });

/** @throws {CniError} 7 with the field and its value */
export function parseHostDeviceConfig(network: NetworkConfig): HostDeviceConfig {
  const raw = parseConfig(schema, network.json, { what: "host-device configuration" });
  const { deviceID } = parseConfig(runtimeSchema, network.runtimeConfig, { what: "runtimeConfig" });
  const device = selectorOf(raw, deviceID);
  return {
    ...(device === undefined ? {} : { device }),
    ...(raw.ipam.type === "" ? {} : { ipamType: raw.ipam.type }),
    ...(raw.dns && overridesIpam(raw.dns) ? { dns: raw.dns } : {}),
  };
}

/** The same for a verb that needs the device. @throws {CniError} 7 */
export function requireDevice(config: HostDeviceConfig): DeviceSelector {
  if (config.device) return config.device;
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    'Cannot use host-device configuration: specify either "device", "hwaddr", "kernelpath" or "pciBusID"',
    { details: 'or have the runtime give "runtimeConfig.deviceID", with "capabilities": {"deviceID": true}' },
  );
}

/** The runtime's choice is for this container; of several fields the first counts, as with the reference plugin. */
function selectorOf(
  raw: v.InferOutput<typeof schema>,
  deviceId: string | undefined,
): DeviceSelector | undefined {
  if (deviceId !== undefined) return { by: "deviceId", id: deviceId };
  if (raw.device !== undefined) return { by: "name", name: raw.device };
  if (raw.hwaddr !== undefined) return { by: "mac", mac: raw.hwaddr };
  if (raw.kernelpath !== undefined) return { by: "path", path: raw.kernelpath };
  if (raw.pciBusID !== undefined) return { by: "pci", address: raw.pciBusID };
  return undefined;
}
