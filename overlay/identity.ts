import { sha256Hex } from "#machine/sha256.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";
import { type MacAddress, macFromBytes } from "#net/mac.ts";

/** VXLAN device of a network for one family of the underlay: `nv` and the network's number in base 36, `nw` for IPv6. */
export function vtepName(vni: number, underlay: 4 | 6): IfName {
  const digits = vni.toString(36);
  // Else that of network b12 would have the name of the bridge of network 12.
  return parseIfName(`${underlay === 4 ? "nv" : "nw"}${digits.startsWith("b") ? "0" : ""}${digits}`);
}

/** The same in an encrypted network, for each of the WireGuard devices that a host has while its key changes. */
export function encryptedVtepName(vni: number, slot: "a" | "b"): IfName {
  return parseIfName(`ne${vni.toString(36)}${slot}`);
}

/**
 * The host's WireGuard device. The name is the host's own, since a process that is such a device is found by it, in a
 * directory that all network namespaces of a machine share.
 */
export function encryptionName(hostId: string, slot: "a" | "b"): IfName {
  return parseIfName(`nx${sha256Hex(hostId).slice(0, 8)}${slot}`);
}

/** The host's side of a network, where its containers are. */
export function overlayBridgeName(vni: number): IfName {
  return parseIfName(`nvb${vni.toString(36)}`);
}

/** A tunnel or a bridge of the overlay's. */
export function isOverlayDeviceName(name: string): boolean {
  return /^n[evw][0-9a-z]{1,6}$/.test(name);
}

/**
 * MAC address of the bridge of a stretched network, the same on all hosts as its address is: a container's gateway is
 * always its own host.
 */
export function stretchedBridgeMac(networkId: string): MacAddress {
  return vtepMac(`bridge/${networkId}`, 0);
}

export function isOverlayBridgeName(name: string): boolean {
  return /^nvb[0-9a-z]{1,5}$/.test(name);
}

/**
 * MAC address of a host's end of a network's tunnel: the same after each start, and known to all others by the host's
 * id alone. Locally administered unicast (IEEE 802 section 8.4).
 */
export function vtepMac(hostId: string, vni: number): MacAddress {
  const bytes = Buffer.from(sha256Hex(`${hostId}/${vni}`).slice(0, 12), "hex");
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return macFromBytes(bytes);
}
