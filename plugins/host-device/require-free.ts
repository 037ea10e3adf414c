import { CniError, ErrorCode } from "#cni/error.ts";
import type { AttachmentKey, JournalRecord } from "#journal/record.ts";
import type { Device } from "#kernel/device.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { PluginHost } from "#plugins/context.ts";
import { intact } from "#plugins/departing.ts";
import type { DeviceSelector } from "./config.ts";
import { describeSelector, type FoundDevice, findDevice } from "./find.ts";
import { findTaken, restore } from "./give-back.ts";
import { decodeMade, describeTaken, isTaken, type Made, type TakenDevice } from "./made.ts";

/**
 * The device, if it is there to be taken. One whose container has gone without a DEL, and which the kernel has sent back
 * under the name that it had there, gets its own name again first.
 * @throws {CniError} 7 where there is no such device; 11 where a container has it
 */
export async function requireFree(selector: DeviceSelector, host: PluginHost): Promise<Made> {
  const { namespace, deviceFiles: files } = host.kernel;
  const look = () => findDevice(selector, { namespace, files });
  let found = await look();
  if (found.kind === "network" && giveNameBack(found.device, host)) found = await look();
  if (found.kind !== "absent") return madeOf(found, namespace);
  const holder = holderOf(selector, host);
  if (holder && reclaim(holder.device, holder.key.ifName, namespace)) {
    const returned = await look();
    if (returned.kind !== "absent") return madeOf(returned, namespace);
  }
  if (!holder) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot find ${describeSelector(selector)}: the host has no such network interface`,
    );
  }
  const { containerId, network, ifName } = holder.key;
  throw new CniError(
    ErrorCode.TryAgainLater,
    `Cannot use ${describeSelector(selector)}: container ${JSON.stringify(containerId)} has it`,
    { details: `as ${JSON.stringify(ifName)}, by network ${JSON.stringify(network)}` },
  );
}

function madeOf(found: Exclude<FoundDevice, { kind: "absent" }>, namespace: NetworkNamespace): Made {
  const pci = found.pciId === undefined ? {} : { pciId: found.pciId };
  if (found.kind === "userspace") return { ifindex: 0, ...pci };
  const { device } = found;
  const master = device.master === undefined ? undefined : readLink(namespace, device.master)?.name;
  return { device: describeTaken(device, master), ifindex: device.ifindex, ...pci };
}

/** The attachment that took it, as far as the journal knows. */
function holderOf(
  selector: DeviceSelector,
  host: PluginHost,
): { readonly key: AttachmentKey; readonly device: TakenDevice } | undefined {
  for (const record of host.journal.list()) {
    const device = takenBy(record);
    if (device && isSelected(selector, device)) return { key: record.key, device };
  }
  return undefined;
}

function isSelected(selector: DeviceSelector, device: TakenDevice): boolean {
  const { name, mac, permanentMac, hardware } = device;
  if (selector.by === "name") return name === selector.name;
  if (selector.by === "mac") return mac === selector.mac || permanentMac === selector.mac;
  if (hardware === undefined) return false;
  if (selector.by === "pci") return hardware === `pci/${selector.address}`;
  if (selector.by === "deviceId") return hardware.endsWith(`/${selector.id}`);
  return selector.path.includes(hardware.slice(hardware.indexOf("/")));
}

/**
 * A device that is here under another name than its own has come back by itself: what is meant by a name, and what it is
 * given back after the next container, is told by how it was. Its own name is written on it as long as a container has it.
 * @returns false where it is what it is called
 */
function giveNameBack(present: Device, host: PluginHost): boolean {
  const { alias } = present;
  if (alias === undefined || alias === present.name) return false;
  const record = host.journal.list().find((each) => {
    const device = takenBy(each);
    return device !== undefined && device.name === alias && isTaken(present, device);
  });
  const device = record && takenBy(record);
  if (device) restore(host.kernel.namespace, present, device);
  return device !== undefined;
}

function takenBy(record: JournalRecord): TakenDevice | undefined {
  if (record.plugin !== "host-device") return undefined;
  return decodeMade(intact(record)?.made ?? null)?.device;
}

function reclaim(device: TakenDevice, ifName: string, namespace: NetworkNamespace): boolean {
  const home = findTaken(namespace, device, [ifName]);
  if (!home) return false;
  restore(namespace, home, device);
  return true;
}
