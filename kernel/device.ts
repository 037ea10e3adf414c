import type { IfName } from "#net/ifname.ts";
import type { MacAddress } from "#net/mac.ts";
import { Errno } from "#netlink/errno.ts";
import { decodeLink, firstLink, getLink, getLinks, type Link, setLink } from "#netlink/route/link.ts";
import { changeLink, type LinkRef, readLink } from "./link.ts";
import { LinkExistsError } from "./link-error.ts";
import type { NetworkNamespace } from "./namespace.ts";

/** A link with everything the kernel tells of it. */
export type Device = Link;

/** One link, whole; undefined if there is none. @throws {NetlinkError} */
export function readDevice(namespace: NetworkNamespace, ref: LinkRef): Device | undefined {
  const [outcome] = namespace.attempt([getLink(ref, { statistics: false })]);
  if (!outcome || outcome.errno === Errno.ENODEV) return undefined;
  if (outcome.errno !== 0) throw outcome.error;
  return firstLink(outcome.messages);
}

/** All links, whole. Asks for a table: for what has no name to ask for. @throws {NetlinkError} */
export function listDevices(namespace: NetworkNamespace): Device[] {
  return namespace.dump(getLinks({ statistics: false })).map(decodeLink);
}

/**
 * The device with this MAC address, now or from the factory. VLANs, bonds and bridges have the address of a device
 * below them, which is meant before them. The kernel can't be asked by address, so this asks for a table.
 * @throws {NetlinkError}
 */
export function findDeviceByMac(namespace: NetworkNamespace, mac: MacAddress): Device | undefined {
  const found = listDevices(namespace).filter((link) => link.mac === mac || link.permanentMac === mac);
  return (
    found.find(({ kind, mac: present }) => kind === undefined && present === mac) ??
    found.find(({ parent, mac: present }) => parent === undefined && present === mac) ??
    found.find(({ mac: present }) => present === mac) ??
    found[0]
  );
}

/**
 * Moves a device into another namespace, where it has the name `name` from the first moment at which anybody there can
 * see it. It arrives down, without addresses, routes and master. One message, so there is no moment in which a program
 * that watches for new links could take a name away. Like `ip link set DEV netns NS name NAME`.
 * @throws {LinkExistsError} the device is where it was
 * @throws {NetlinkError} EINVAL for what the kernel lets nobody move; the device is where it was
 */
export function moveDevice(
  from: NetworkNamespace,
  device: Pick<Device, "ifindex" | "name" | "up">,
  to: NetworkNamespace,
  changes: { readonly name: IfName; readonly alias?: string },
): Device {
  const { name } = changes;
  if (readLink(to, name)) throw new LinkExistsError(name, to);
  const [outcome] = from.attempt([setLink(device.ifindex, { namespaceFd: to.fd, ...changes })]);
  if (!outcome || outcome.errno !== 0) {
    // The kernel moves first and renames then: somebody may have taken the name in between.
    bringBack(from, device, to);
    if (outcome?.errno === Errno.EEXIST) throw new LinkExistsError(name, to, outcome.error);
    throw outcome?.error ?? new Error(`Cannot move link ${JSON.stringify(device.name)}: no answer`);
  }
  const moved = readDevice(to, name);
  if (!moved) throw new Error(`Cannot move link ${JSON.stringify(device.name)}: it has gone on the way`);
  return moved;
}

function bringBack(
  home: NetworkNamespace,
  device: Pick<Device, "ifindex" | "name" | "up">,
  away: NetworkNamespace,
): void {
  if (readLink(home, device.ifindex)?.name === device.name) return;
  const name = device.name as IfName;
  const astray = readLink(away, name);
  if (!astray) return;
  changeLink(away, astray.ifindex, { namespaceFd: home.fd, up: device.up });
}
