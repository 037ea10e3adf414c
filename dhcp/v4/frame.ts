import { type IpAddress, ipFromBytes, ipToBytes } from "#net/ip.ts";
import { type MacAddress, macFromBytes, macToBytes, parseMac } from "#net/mac.ts";

/** A datagram of UDP over IPv4 in an Ethernet frame, as a client sends it that has no address yet. */
export interface Frame {
  readonly sourceMac: MacAddress;
  readonly destinationMac: MacAddress;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Uint8Array;
}

export const broadcastMac = parseMac("ff:ff:ff:ff:ff:ff");
export const broadcastAddress: IpAddress = { family: 4, value: 0xffffffffn };

const ethernetBytes = 14;
const ipBytes = 20;
const udpBytes = 8;
const udpProtocol = 17;

export function encodeFrame(frame: Frame): Uint8Array {
  const { payload } = frame;
  const bytes = Buffer.alloc(ethernetBytes + ipBytes + udpBytes + payload.length);
  bytes.set(macToBytes(frame.destinationMac), 0);
  bytes.set(macToBytes(frame.sourceMac), 6);
  bytes.writeUInt16BE(0x0800, 12);
  const ip = bytes.subarray(ethernetBytes);
  ip[0] = 0x45;
  ip.writeUInt16BE(ipBytes + udpBytes + payload.length, 2);
  ip[8] = 64;
  ip[9] = udpProtocol;
  ip.set(ipToBytes(frame.source), 12);
  ip.set(ipToBytes(frame.destination), 16);
  ip.writeUInt16BE(checksum(ip.subarray(0, ipBytes)), 10);
  const udp = ip.subarray(ipBytes);
  udp.writeUInt16BE(frame.sourcePort, 0);
  udp.writeUInt16BE(frame.destinationPort, 2);
  udp.writeUInt16BE(udpBytes + payload.length, 4);
  udp.set(payload, udpBytes);
  const pseudo = Buffer.alloc(12);
  ip.copy(pseudo, 0, 12, 20);
  pseudo[9] = udpProtocol;
  pseudo.writeUInt16BE(udp.length, 10);
  // 0 would say that there is none: RFC 768.
  udp.writeUInt16BE(checksum(Buffer.concat([pseudo, udp])) || 0xffff, 6);
  return bytes;
}

/**
 * UDP's checksum is not looked at: between the ends of a veth pair nobody fills it in.
 * @returns undefined for what is no such frame, or is cut; never throws
 */
export function decodeFrame(data: Uint8Array): Frame | undefined {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  if (bytes.length < ethernetBytes + ipBytes + udpBytes || bytes.readUInt16BE(12) !== 0x0800)
    return undefined;
  const ip = bytes.subarray(ethernetBytes);
  const headerBytes = ((ip[0] ?? 0) & 0xf) * 4;
  const totalBytes = ip.readUInt16BE(2);
  const isFragment = (ip.readUInt16BE(6) & 0x3fff) !== 0;
  if ((ip[0] ?? 0) >> 4 !== 4 || headerBytes < ipBytes || ip[9] !== udpProtocol || isFragment)
    return undefined;
  // Short frames are padded.
  if (totalBytes > ip.length || totalBytes < headerBytes + udpBytes) return undefined;
  if (checksum(ip.subarray(0, headerBytes)) !== 0) return undefined;
  const udp = ip.subarray(headerBytes, totalBytes);
  const length = udp.readUInt16BE(4);
  if (length < udpBytes || length > udp.length) return undefined;
  return {
    destinationMac: macFromBytes(bytes.subarray(0, 6)),
    sourceMac: macFromBytes(bytes.subarray(6, 12)),
    source: ipFromBytes(ip.subarray(12, 16)),
    destination: ipFromBytes(ip.subarray(16, 20)),
    sourcePort: udp.readUInt16BE(0),
    destinationPort: udp.readUInt16BE(2),
    payload: udp.subarray(udpBytes, length),
  };
}

/** RFC 1071 */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
