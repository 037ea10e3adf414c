import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { int, mac } from "#cni/schema-values.ts";
import type { Json } from "#journal/record.ts";
import type { Device } from "#kernel/device.ts";

/** A device of the host as it was before a container got it: how to know it again, and what to give it back. */
const taken = goObject({
  name: v.string(),
  /** "veth", "vlan" …; absent for hardware. */
  kind: v.exactOptional(v.string()),
  permanentMac: v.exactOptional(mac),
  /** On which bus it is what: "pci/0000:03:00.0". */
  hardware: v.exactOptional(v.string()),
  /** Of which port of that. */
  mac: v.exactOptional(mac),
  mtu: int(),
  up: v.boolean(),
  alias: v.string(),
  txQueueLength: int(),
  /** Name of the bridge, bond or VRF that it was in. */
  master: v.exactOptional(v.string()),
});

export type TakenDevice = v.InferOutput<typeof taken>;

const schema = goObject({
  /** When it was found; 0 without a device. */
  ifindex: int(),
  pciId: v.exactOptional(v.string()),
  /** Absent where a program drives the hardware, so that there is none to be given back. */
  device: v.exactOptional(taken),
});

/** What the journal keeps of an attachment: enough to give the device back when all else is gone. */
export type Made = v.InferOutput<typeof schema>;

/** @param master the link that it is a port of */
export function describeTaken(device: Device, master: string | undefined): TakenDevice {
  const { name, kind, permanentMac, parentBus, parentDevice, mac: present, mtu, up, alias = "" } = device;
  return {
    name,
    ...(kind === undefined ? {} : { kind }),
    ...(permanentMac === undefined ? {} : { permanentMac }),
    ...(parentBus !== undefined && parentDevice !== undefined
      ? { hardware: `${parentBus}/${parentDevice}` }
      : {}),
    ...(present === undefined ? {} : { mac: present }),
    mtu,
    up,
    alias,
    txQueueLength: device.txQueueLength,
    ...(master === undefined ? {} : { master }),
  };
}

/** Whether a link is that device, whatever it is called by now. */
export function isTaken(link: Device, device: TakenDevice): boolean {
  if (link.kind !== device.kind) return false;
  const known = describeTaken(link, undefined);
  if (device.hardware !== undefined && known.hardware !== device.hardware) return false;
  if (device.permanentMac !== undefined) return known.permanentMac === device.permanentMac;
  if (device.hardware !== undefined && link.mac === device.mac) return true;
  // Without anything of its own to know it by there is the name that was written on it when it was taken.
  return link.alias === device.name || (link.name === device.name && link.mac === device.mac);
}

export function encodeMade({ device, ...rest }: Made): JsonObject {
  return { ...rest, ...(device ? { device: { ...device } } : {}) };
}

/** Undefined for what another version wrote otherwise. */
export function decodeMade(made: Json): Made | undefined {
  const outcome = v.safeParse(schema, made);
  return outcome.success ? outcome.output : undefined;
}
