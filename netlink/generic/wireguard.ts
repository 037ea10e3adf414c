import type { Cidr } from "#net/cidr.ts";
import { type IpAddress, ipFromBytes, ipToBytes } from "#net/ip.ts";
import { attributeTable, listOf } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { bytes, type Codec, expectAtLeast, ip, text, u8, u16, u32, u64 } from "#netlink/codec.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Message, Request } from "#netlink/message.ts";
import { decodeGeneric, genericRequest } from "./message.ts";

/** WG_GENL_NAME: include/uapi/linux/wireguard.h, as all numbers here */
export const wireguardFamilyName = "wireguard";
const version = 1;
/** enum wg_cmd */
const Command = { GetDevice: 0, SetDevice: 1 } as const;
/** enum wgdevice_flag */
const DeviceFlag = { ReplacePeers: 1 } as const;
/** enum wgpeer_flag */
const PeerFlag = { RemoveMe: 1, ReplaceAllowedIps: 2 } as const;

const afInet = 2;
const afInet6 = 10;

/** Where a peer is reached. */
export interface Endpoint {
  readonly ip: IpAddress;
  readonly port: number;
}

/** struct sockaddr_in or sockaddr_in6; port in network byte order */
const endpoint: Codec<Endpoint> = {
  write(into, value) {
    into.u16(value.ip.family === 4 ? afInet : afInet6).u16be(value.port);
    if (value.ip.family === 4) into.bytes(ipToBytes(value.ip)).zeros(8);
    else into.zeros(4).bytes(ipToBytes(value.ip)).zeros(4);
  },
  read(payload) {
    expectAtLeast(payload, 16);
    const view = viewOf(payload);
    const family = view.getUint16(0, hostLittleEndian);
    const port = view.getUint16(2);
    if (family === afInet) return { ip: ipFromBytes(payload.subarray(4, 8)), port };
    if (family !== afInet6) throw new DecodeError(`endpoint of address family ${family}`);
    expectAtLeast(payload, 28);
    return { ip: ipFromBytes(payload.subarray(8, 24)), port };
  },
};

/** struct __kernel_timespec; only whole milliseconds are kept. 0: never */
const timestampMs: Codec<number> = {
  write(into, value) {
    into.u64(BigInt(Math.floor(value / 1000))).u64(BigInt(value % 1000) * 1_000_000n);
  },
  read(payload) {
    expectAtLeast(payload, 16);
    const view = viewOf(payload);
    const seconds = Number(view.getBigInt64(0, hostLittleEndian));
    return seconds * 1000 + Math.floor(Number(view.getBigInt64(8, hostLittleEndian)) / 1e6);
  },
};

/** WGALLOWEDIP_A_* */
const allowedIp = attributeTable({ family: [1, u16], address: [2, ip], prefixLength: [3, u8] });

/** WGPEER_A_* */
const peer = attributeTable({
  publicKey: [1, bytes],
  presharedKey: [2, bytes],
  flags: [3, u32],
  endpoint: [4, endpoint],
  keepalive: [5, u16], // seconds; 0: none
  lastHandshakeMs: [6, timestampMs],
  received: [7, u64], // bytes
  sent: [8, u64],
  allowed: [9, listOf(allowedIp, 0)],
  protocolVersion: [10, u32],
});

/** WGDEVICE_A_* */
const device = attributeTable({
  ifindex: [1, u32],
  name: [2, text],
  privateKey: [3, bytes],
  publicKey: [4, bytes],
  flags: [5, u32],
  port: [6, u16],
  mark: [7, u32],
  peers: [8, listOf(peer, 0)],
});

/** What is to become of one peer. What is absent stays as it is. */
export interface PeerChange {
  /** 32 bytes */
  readonly publicKey: Uint8Array;
  readonly remove?: boolean;
  readonly endpoint?: Endpoint | undefined;
  /** All that it may send from, and what is sent to it. Taken from any other peer that has it. */
  readonly allowed?: readonly Cidr[] | undefined;
  /** Seconds; 0: none */
  readonly keepalive?: number | undefined;
}

export interface DeviceChange {
  /** 32 bytes */
  readonly privateKey?: Uint8Array | undefined;
  /** UDP */
  readonly port?: number | undefined;
  /** Whether those that are not named go. */
  readonly replacePeers?: boolean;
  readonly peers: readonly PeerChange[];
}

/** A device as the kernel reports it. */
export interface WireguardDevice {
  readonly publicKey?: Uint8Array | undefined;
  readonly port: number;
  readonly peers: readonly WireguardPeer[];
}

export interface WireguardPeer {
  readonly publicKey: Uint8Array;
  readonly endpoint?: Endpoint | undefined;
  readonly allowed: readonly Cidr[];
  readonly keepalive: number;
  /** Wall clock; 0: none yet */
  readonly lastHandshakeMs: number;
  /** Bytes, of packets that were in order */
  readonly received: bigint;
}

/** `wg set NAME …`. One message takes some hundreds of peers: an attribute ends at 64 KB. */
export function setWireguardDevice(family: number, name: string, change: DeviceChange): Request {
  const { privateKey, port, replacePeers, peers } = change;
  return genericRequest(
    { op: `configure WireGuard device "${name}"`, family, command: Command.SetDevice, version },
    device.encode({
      name,
      privateKey,
      port,
      flags: replacePeers ? DeviceFlag.ReplacePeers : undefined,
      peers: peers.length === 0 ? undefined : peers.map(peerAttributes),
    }),
  );
}

function peerAttributes({ publicKey, remove, endpoint: where, allowed, keepalive }: PeerChange) {
  const flags = (remove ? PeerFlag.RemoveMe : 0) | (allowed ? PeerFlag.ReplaceAllowedIps : 0);
  return {
    publicKey,
    flags: flags === 0 ? undefined : flags,
    endpoint: where,
    keepalive,
    allowed: allowed?.map(({ address, prefixLength }) => ({
      family: address.family === 4 ? afInet : afInet6,
      address,
      prefixLength,
    })),
  };
}

/** For `dump`: `wg show NAME dump`. ENODEV where there is none, EOPNOTSUPP where it is no WireGuard device. */
export function getWireguardDevice(family: number, name: string): Request {
  return genericRequest(
    { op: `read WireGuard device "${name}"`, family, command: Command.GetDevice, version },
    device.encode({ name }),
  );
}

/** Joins the parts of a dump: peers that do not fit into one message go on in the next. @throws {DecodeError} */
export function decodeWireguardDevice(messages: readonly Message[]): WireguardDevice {
  let publicKey: Uint8Array | undefined;
  let port = 0;
  const peers = new Map<string, WireguardPeer>();
  for (const message of messages) {
    const part = decodeGeneric(message, device);
    publicKey = part.publicKey ?? publicKey;
    port = part.port ?? port;
    for (const each of part.peers ?? []) {
      if (!each.publicKey) throw new DecodeError("no WGPEER_A_PUBLIC_KEY", ["peers"]);
      const key = Buffer.from(each.publicKey).toString("hex");
      const before = peers.get(key);
      peers.set(key, {
        publicKey: each.publicKey,
        endpoint: each.endpoint ?? before?.endpoint,
        allowed: [...(before?.allowed ?? []), ...(each.allowed ?? []).flatMap(cidrOf)],
        keepalive: each.keepalive ?? before?.keepalive ?? 0,
        lastHandshakeMs: each.lastHandshakeMs ?? before?.lastHandshakeMs ?? 0,
        received: each.received ?? before?.received ?? 0n,
      });
    }
  }
  return { publicKey, port, peers: [...peers.values()] };
}

function cidrOf({
  address,
  prefixLength,
}: {
  address?: IpAddress | undefined;
  prefixLength?: number | undefined;
}) {
  return address && prefixLength !== undefined ? [{ address, prefixLength }] : [];
}
