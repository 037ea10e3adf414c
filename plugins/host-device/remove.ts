import { isDeepStrictEqual } from "node:util";
import { type Device, readDevice } from "#kernel/device.ts";
import { isFirstNamespace } from "#kernel/first-namespace.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";
import { openAttachmentNamespace } from "#plugins/attachment-namespace.ts";
import type { PluginHost } from "#plugins/context.ts";
import { type Departing, intact } from "#plugins/departing.ts";
import { parseHostDeviceConfig } from "./config.ts";
import { bringHome, comesBack, findTaken, restore, waitForReturn } from "./give-back.ts";
import { decodeMade, describeTaken, isTaken, type Made, type TakenDevice } from "./made.ts";

/**
 * Gives the device back to the host.
 * @throws {CniError} 11 where it has not come back, or its name is taken
 */
export async function removeAttachment(
  departing: Departing,
  made: Made | undefined,
  host: PluginHost,
): Promise<void> {
  const device = made?.device;
  const container = openAttachmentNamespace(host, departing.record, departing.netns);
  try {
    if (!made) return giveUnrecorded(departing, container, host);
    if (!device || giveBack(departing, device, { container, host })) return;
  } finally {
    // Held open, it could not end.
    container?.close();
  }
  await awaitReturn(departing, device, host);
}

/** @returns true where nothing is left to be done */
function giveBack(
  departing: Departing,
  device: TakenDevice,
  { container, host }: { readonly container: NetworkNamespace | undefined; readonly host: PluginHost },
): boolean {
  const { namespace } = host.kernel;
  const { ifName } = departing.key;
  const inside = container && readDevice(container, ifName as IfName);
  if (container && inside && isTaken(inside, device)) {
    bringHome(container, inside, namespace, device);
    return true;
  }
  const isTheirs = isElsewhere(departing, device, host);
  const home = findTaken(namespace, device, [device.name, ifName]);
  if (home) {
    if (!isTheirs) restore(namespace, home, device);
    return true;
  }
  // Somebody in the container may have given it another name.
  const renamed = container && findTaken(container, device, []);
  if (container && renamed) bringHome(container, renamed, namespace, device);
  return renamed !== undefined || isTheirs || !comesBack(device);
}

async function awaitReturn(
  { key, release }: Departing,
  device: TakenDevice,
  host: PluginHost,
): Promise<void> {
  const { namespace } = host.kernel;
  if (!isFirstNamespace(namespace)) {
    release.onStderr(
      `Device ${JSON.stringify(device.name)} is not in the host's network namespace: the kernel has sent it to the machine's first one\n`,
    );
    return;
  }
  restore(namespace, await waitForReturn(namespace, device, key.ifName, release.signal), device);
}

/** Whether another attachment has the device by now: this one's container ended, and the device was taken again. */
function isElsewhere({ key }: Departing, device: TakenDevice, host: PluginHost): boolean {
  for (const record of host.journal.eachOf("host-device")) {
    const other = decodeMade(intact(record)?.made ?? null)?.device;
    if (
      other !== undefined &&
      !isDeepStrictEqual(record.key, key) &&
      other.name === device.name &&
      other.hardware === device.hardware &&
      other.permanentMac === device.permanentMac
    )
      return true;
  }
  return false;
}

/**
 * An attachment of the reference plugin, or one whose record is lost. The device has its old name written on it; one
 * that came back by itself is known by that as well. Anything else is not touched.
 */
function giveUnrecorded(
  { key, release }: Departing,
  container: NetworkNamespace | undefined,
  host: PluginHost,
): void {
  const { namespace } = host.kernel;
  const inside = container && readDevice(container, key.ifName as IfName);
  if (container && inside) {
    const name = nameOn(inside);
    if (name === undefined) return;
    bringHome(container, inside, namespace, asTaken(inside, name));
    return;
  }
  const name = configuredName(release.config);
  if (name === undefined || readDevice(namespace, name)) return;
  const home = readDevice(namespace, key.ifName as IfName);
  if (home?.alias === name && comesBack(asTaken(home, name))) restore(namespace, home, asTaken(home, name));
}

function asTaken(device: Device, name: IfName): TakenDevice {
  // The reference plugin leaves it down, and it is not known what else it was.
  return { ...describeTaken(device, undefined), name, alias: "", up: false };
}

function nameOn({ alias }: Device): IfName | undefined {
  try {
    return parseIfName(alias ?? "");
  } catch {
    return undefined;
  }
}

function configuredName(config: Parameters<typeof parseHostDeviceConfig>[0]): IfName | undefined {
  try {
    const { device } = parseHostDeviceConfig(config);
    return device?.by === "name" ? parseIfName(device.name) : undefined;
  } catch {
    // A DEL goes on with a configuration that would not do for an ADD.
    return undefined;
  }
}
