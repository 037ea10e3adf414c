import { addAddress } from "#kernel/address.ts";
import { readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { equalCidr, formatCidr, hostCidr } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import type { IpAddress } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import type { Endpoint } from "#netlink/generic/wireguard.ts";
import { decodeAddress, getAddresses } from "#netlink/route/address.ts";
import { deleteLink, newLink, setLink } from "#netlink/route/link.ts";
import { AddressGeneration } from "#netlink/route/link-attributes.ts";
import type { Control, DeviceChange, DeviceState, PeerChange } from "./control.ts";
import { KernelControl } from "./kernel-control.ts";
import { innerAddress, publicKeyOf } from "./key.ts";
import type { OwnKey, Slot } from "./key-file.ts";
import { userspaceControl } from "./uapi.ts";

/** Bytes that WireGuard puts around a packet: outer IP and UDP, its own header and authentication. */
export const wireguardOverhead = { 4: 60, 6: 80 } as const;

/** This host's end of the encrypted tunnels: a WireGuard device with one key. */
export interface End {
  readonly slot: Slot;
  readonly name: IfName;
  readonly ifindex: number;
  /** Of VXLAN, inside. */
  readonly address: IpAddress;
  /** When hands were shaken last with each public key, wall clock in ms; 0: never. */
  readonly handshakes: ReadonlyMap<string, number>;
  /** Bytes from all peers. */
  readonly received: bigint;
}

export interface WantedPeer {
  readonly publicKey: string;
  readonly endpoint: Endpoint;
}

export interface WantedEnd {
  readonly name: IfName;
  readonly key: OwnKey;
  readonly mtu: number;
  /** Undefined: as they are. */
  readonly peers: readonly WantedPeer[] | undefined;
  /** Seconds; 0: only where there is something to send */
  readonly keepalive: number;
}

export interface EndOptions {
  readonly namespace: NetworkNamespace;
  /** Makes the device where the kernel has none of the kind. */
  readonly startUserspace: (name: IfName) => Promise<void>;
  /** Where each peer was last said to be, by device and public key: it may have moved since, and WireGuard follows. */
  readonly told: Map<string, string>;
  readonly changed: (words: string) => void;
}

/** Makes one end as it should be. @throws Error in words; what could be read of the device is lost with it */
export async function ensureEnd(wanted: WantedEnd, options: EndOptions): Promise<End> {
  const { namespace, changed } = options;
  const { name, key } = wanted;
  const publicKey = publicKeyOf(key.privateKey);
  const address = { address: innerAddress(publicKey), prefixLength: 64 };
  if (!readLink(namespace, name)) {
    await makeDevice(name, options);
    changed(`make WireGuard device ${name}`);
  }
  const link = readLink(namespace, name);
  if (!link) throw new Error(`WireGuard device ${name} is gone again`);
  const control: Control = link.kind === "wireguard" ? new KernelControl(namespace) : userspaceControl;
  const before = await control.read(name);
  const change = differences(wanted, publicKey, before, options.told);
  if (change) {
    await control.change(name, change);
    remember(name, change, options.told);
    if (change.peers.length > 0 || change.privateKey !== undefined)
      changed(`set ${change.peers.length} peers of WireGuard device ${name}`);
  }
  if (!link.up || link.mtu !== wanted.mtu) {
    const [outcome] = namespace
      .attempt([
        setLink(name, { addressGeneration: AddressGeneration.None }),
        setLink(name, { mtu: wanted.mtu, up: true }),
      ])
      .slice(1);
    if (outcome?.error) throw outcome.error;
    changed(`set WireGuard device ${name} up`);
  }
  const addresses = namespace.dump(getAddresses({ ifindex: link.ifindex })).map(decodeAddress);
  if (!addresses.some((each) => equalCidr(each.address, address))) addAddress(namespace, link, address);
  return {
    slot: key.slot,
    name,
    ifindex: link.ifindex,
    address: address.address,
    handshakes: new Map([...before.peers].map(([peer, { lastHandshakeMs }]) => [peer, lastHandshakeMs])),
    received: before.received,
  };
}

async function makeDevice(name: IfName, { namespace, startUserspace, told }: EndOptions): Promise<void> {
  for (const place of told.keys()) if (place.startsWith(`${name} `)) told.delete(place);
  const [outcome] = namespace.attempt([newLink({ name, kind: "wireguard" })]);
  if (outcome?.errno === Errno.EOPNOTSUPP) await startUserspace(name);
  else if (outcome?.error) throw outcome.error;
}

/** Takes a device away. A process that is it ends with it. */
export function removeEnd(namespace: NetworkNamespace, name: IfName): boolean {
  const link = readLink(namespace, name);
  if (!link) return false;
  const [outcome] = namespace.attempt([deleteLink(link.ifindex)]);
  return outcome?.errno === 0;
}

function differences(
  { key, peers, keepalive, name }: WantedEnd,
  publicKey: string,
  state: DeviceState,
  told: ReadonlyMap<string, string>,
): DeviceChange | undefined {
  const wantedKeys = new Set(peers?.map((peer) => peer.publicKey));
  const changes: PeerChange[] = [...state.peers.keys()]
    .filter((each) => peers && !wantedKeys.has(each))
    .map((each) => ({ publicKey: each, remove: true }));
  for (const peer of peers ?? []) {
    const allowed = [hostCidr(innerAddress(peer.publicKey))];
    const present = state.peers.get(peer.publicKey);
    const change: PeerChange = {
      publicKey: peer.publicKey,
      ...(told.get(`${name} ${peer.publicKey}`) === endpointText(peer.endpoint) && present
        ? {}
        : { endpoint: peer.endpoint }),
      ...(present?.allowed.map(formatCidr).join() === allowed.map(formatCidr).join() ? {} : { allowed }),
      ...((present?.keepalive ?? 0) === keepalive ? {} : { keepalive }),
    };
    if (Object.keys(change).length > 1) changes.push(change);
  }
  const own = {
    ...(state.publicKey === publicKey ? {} : { privateKey: key.privateKey }),
    ...(state.port === key.port ? {} : { port: key.port }),
  };
  return changes.length > 0 || Object.keys(own).length > 0 ? { ...own, peers: changes } : undefined;
}

function remember(name: IfName, { peers }: DeviceChange, told: Map<string, string>): void {
  for (const { publicKey, remove, endpoint } of peers) {
    if (remove === true) told.delete(`${name} ${publicKey}`);
    else if (endpoint) told.set(`${name} ${publicKey}`, endpointText(endpoint));
  }
}

function endpointText({ ip, port }: Endpoint): string {
  return `${ip.family} ${ip.value} ${port}`;
}
