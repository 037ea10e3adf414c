import { CniError, ErrorCode } from "#cni/error.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { PluginHost } from "#plugins/context.ts";
import { intact } from "#plugins/departing.ts";
import type { DeviceSelector } from "./config.ts";
import { describeSelector, type FoundDevice, findDevice } from "./find.ts";
import { findTaken, restore } from "./give-back.ts";
import { decodeMade, describeTaken, type Made, type TakenDevice } from "./made.ts";

/**
 * The device, if it is there to be taken. One whose container has gone without a DEL, and which the kernel has sent back
 * under the name that it had there, gets its own name again first.
 * @throws {CniError} 7 where there is no such device; 11 where a container has it
 */
export async function requireFree(selector: DeviceSelector, host: PluginHost): Promise<Made> {
  const { namespace, deviceFiles: files } = host.kernel;
  const found = await findDevice(selector, { namespace, files });
  if (found.kind !== "absent") return madeOf(found, namespace);
  const holder = holderOf(selector, host);
  if (holder && reclaim(holder.device, holder.key.ifName, namespace)) {
    const returned = await findDevice(selector, { namespace, files });
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
    if (record.plugin !== "host-device") continue;
    const device = decodeMade(intact(record)?.made ?? null)?.device;
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

function reclaim(device: TakenDevice, ifName: string, namespace: NetworkNamespace): boolean {
  const home = findTaken(namespace, device, [ifName]);
  if (!home) return false;
  restore(namespace, home, device);
  return true;
}
