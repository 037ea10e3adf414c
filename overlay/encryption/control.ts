import type { Cidr } from "#net/cidr.ts";
import type { Endpoint } from "#netlink/generic/wireguard.ts";

/** What is to become of one peer; what is absent stays as it is. Keys are base64. */
export interface PeerChange {
  readonly publicKey: string;
  readonly remove?: boolean;
  readonly endpoint?: Endpoint;
  readonly allowed?: readonly Cidr[];
  /** Seconds; 0: none */
  readonly keepalive?: number;
}

export interface DeviceChange {
  readonly privateKey?: string;
  readonly port?: number;
  readonly peers: readonly PeerChange[];
}

export interface PeerState {
  readonly allowed: readonly Cidr[];
  readonly keepalive: number;
  /** Wall clock; 0: none yet */
  readonly lastHandshakeMs: number;
}

export interface DeviceState {
  /** Undefined while it has no key. */
  readonly publicKey: string | undefined;
  readonly port: number;
  /** By public key. */
  readonly peers: ReadonlyMap<string, PeerState>;
  /** Bytes from all peers. */
  readonly received: bigint;
}

/** How a WireGuard device is asked and told: by netlink where it is the kernel's, by a socket where a process is it. */
export interface Control {
  /** @throws Error in words */
  read(device: string): Promise<DeviceState>;
  /** @throws Error in words */
  change(device: string, change: DeviceChange): Promise<void>;
}
