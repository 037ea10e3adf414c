import { closeSync } from "node:fs";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { native } from "#native/addon.ts";
import { type IpAddress, ipToBytes, parseIp } from "#net/ip.ts";
import { type MacAddress, macToBytes, parseMac } from "#net/mac.ts";

/** An address of another host's container, under which MAC address it is reached from now on. */
export interface Announced {
  /** ifindex */
  readonly bridge: number;
  readonly ip: IpAddress;
  readonly mac: MacAddress;
}

const etherTypes = { arp: 0x0806, ipv6: 0x86dd } as const;
const everybody = parseMac("ff:ff:ff:ff:ff:ff");
/** All nodes of the link, RFC 4291 section 2.7.1. */
const allNodes = parseIp("ff02::1");
const icmpv6Protocol = 58;

/**
 * Tells the containers of this host, in place of one of another host that has moved here or there: what it said itself
 * is not flooded so far. Whoever has spoken to the address goes on at once; nobody else takes notice.
 */
export function announce(namespace: NetworkNamespace, announced: readonly Announced[]): void {
  const byBridge = new Map<number, Announced[]>();
  for (const each of announced) byBridge.set(each.bridge, [...(byBridge.get(each.bridge) ?? []), each]);
  for (const [bridge, addresses] of byBridge) {
    let fd = -1;
    try {
      // Nothing is received: port 0 is nobody's.
      fd = native().packetSocketIn(namespace.fd, bridge, 0);
      for (const { ip, mac } of addresses)
        native().socketSend(fd, ip.family === 4 ? gratuitousArp(ip, mac) : neighborAdvertisement(ip, mac));
    } catch {
      // A bridge that has just gone or is down has nobody to be told.
    } finally {
      if (fd >= 0) closeSync(fd);
    }
  }
}

/** RFC 5227, section 3: a request for the sender's own address. */
export function gratuitousArp(ip: IpAddress, mac: MacAddress): Uint8Array {
  const arp = Buffer.alloc(28);
  arp.writeUInt16BE(1, 0);
  arp.writeUInt16BE(0x0800, 2);
  arp.set([6, 4], 4);
  arp.writeUInt16BE(1, 6);
  arp.set(macToBytes(mac), 8);
  arp.set(ipToBytes(ip), 14);
  arp.set(ipToBytes(ip), 24);
  return framed(everybody, mac, etherTypes.arp, arp);
}

/**
 * RFC 4861, sections 4.4 and 7.2.6: unsolicited, and overriding what was known. In a broadcast frame: in one to a group a
 * bridge looks for IPv4, as that is what the socket is bound to, and drops it.
 */
export function neighborAdvertisement(ip: IpAddress, mac: MacAddress): Uint8Array {
  const message = Buffer.alloc(32);
  message[0] = 136;
  message[4] = 0x20;
  message.set(ipToBytes(ip), 8);
  // The option that has the target's link-layer address, in units of eight bytes.
  message.set([2, 1], 24);
  message.set(macToBytes(mac), 26);
  const pseudo = Buffer.alloc(40);
  pseudo.set(ipToBytes(ip), 0);
  pseudo.set(ipToBytes(allNodes), 16);
  pseudo.writeUInt32BE(message.length, 32);
  pseudo[39] = icmpv6Protocol;
  message.writeUInt16BE(internetChecksum(Buffer.concat([pseudo, message])), 2);
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header.writeUInt16BE(message.length, 4);
  header.set([icmpv6Protocol, 255], 6);
  header.set(ipToBytes(ip), 8);
  header.set(ipToBytes(allNodes), 24);
  return framed(everybody, mac, etherTypes.ipv6, Buffer.concat([header, message]));
}

function framed(to: MacAddress, from: MacAddress, etherType: number, payload: Uint8Array): Uint8Array {
  const type = Buffer.alloc(2);
  type.writeUInt16BE(etherType);
  return Buffer.concat([macToBytes(to), macToBytes(from), type, payload]);
}

/** RFC 1071, of an even number of bytes. */
function internetChecksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
