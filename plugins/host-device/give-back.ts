import { CniError, ErrorCode } from "#cni/error.ts";
import { type Device, listDevices, moveDevice, readDevice } from "#kernel/device.ts";
import { changeLink, type LinkChanges, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { WaitTimeoutError, waitUntil } from "#kernel/wait.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";
import { isTaken, type TakenDevice } from "./made.ts";

/** Moves the device back into the host's namespace, under its own name and as it was there. Leaves nothing inside. */
export function bringHome(
  container: NetworkNamespace,
  inside: Device,
  host: NetworkNamespace,
  device: TakenDevice,
): void {
  const wanted = parseIfName(device.name);
  const isFree = readLink(host, wanted) === undefined;
  // In the container it would go with the namespace, to wherever the kernel puts it then.
  const name = isFree ? wanted : freeName(host, inside.ifindex);
  const home = moveDevice(container, inside, host, { name });
  crashPoint("device-home");
  if (!isFree) throw nameTaken(device, name);
  restore(host, home, device);
}

/** As the kernel itself calls a device whose name is taken where it has to go (default_device_exit_net). */
function freeName(host: NetworkNamespace, ifindex: number): IfName {
  for (let number = ifindex; ; number++) {
    const name = parseIfName(`dev${number}`);
    if (readLink(host, name) === undefined) return name;
  }
}

function nameTaken(device: TakenDevice, present: string): CniError {
  return new CniError(
    ErrorCode.TryAgainLater,
    `Cannot give device ${JSON.stringify(device.name)} its name back: the host has another interface of that name`,
    {
      details: `it is in the host's namespace as ${JSON.stringify(present)}; rename the other one, and repeat the DEL`,
    },
  );
}

/** Gives a device that is in the host's namespace everything back that it had there. */
export function restore(host: NetworkNamespace, home: Device, device: TakenDevice): void {
  const { name, mac, mtu, alias, txQueueLength } = device;
  if (home.name !== name) {
    const wanted = parseIfName(name);
    if (readLink(host, wanted)) throw nameTaken(device, home.name);
    // Older kernels rename no link that is up.
    changeLink(host, home.ifindex, { up: false });
    changeLink(host, home.ifindex, { name: wanted });
    crashPoint("device-renamed");
  }
  const changes: LinkChanges = {
    ...(mac !== undefined && home.mac !== mac ? { mac } : {}),
    ...(home.mtu === mtu ? {} : { mtu }),
    ...(home.txQueueLength === txQueueLength ? {} : { txQueueLength }),
    ...((home.alias ?? "") === alias ? {} : { alias }),
  };
  if (Object.keys(changes).length > 0) changeLink(host, home.ifindex, changes);
  const master = device.master === undefined ? undefined : readLink(host, device.master as IfName);
  changeLink(host, home.ifindex, { up: device.up, ...(master ? { master: master.ifindex } : {}) });
  crashPoint("device-restored");
}

/** The device among the links of a namespace, whatever it is called there. */
export function findTaken(
  namespace: NetworkNamespace,
  device: TakenDevice,
  likely: readonly string[],
): Device | undefined {
  for (const name of likely) {
    const link = readDevice(namespace, name as IfName);
    if (link && isTaken(link, device)) return link;
  }
  return listDevices(namespace).find((link) => isTaken(link, device));
}

/** Virtual devices end with their namespace; but for CAN ones, which come back as hardware does (netns_refund). */
export function comesBack({ kind }: TakenDevice): boolean {
  return kind === undefined || kind === "can" || kind === "vcan";
}

const returnTimeoutMs = 3_000;

/**
 * Waits for hardware whose namespace has ended: the kernel sends it back from a work queue.
 * @throws {CniError} 11 as long as something keeps the namespace alive
 */
export async function waitForReturn(
  host: NetworkNamespace,
  device: TakenDevice,
  ifName: string,
  signal: AbortSignal,
): Promise<Device> {
  try {
    return await waitUntil(
      `device ${JSON.stringify(device.name)} to come back`,
      () => findTaken(host, device, [device.name, ifName]),
      { timeoutMs: returnTimeoutMs, signal },
    );
  } catch (cause) {
    if (!(cause instanceof WaitTimeoutError)) throw cause;
    throw new CniError(
      ErrorCode.TryAgainLater,
      `Device ${JSON.stringify(device.name)} has not come back from the container yet`,
      { details: "a process, a mount or an open file keeps the container's namespace alive", cause },
    );
  }
}
