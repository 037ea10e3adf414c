import type { NetworkNamespace } from "#kernel/namespace.ts";
import { decodeFamily, getFamily } from "#netlink/generic/controller.ts";
import {
  decodeWireguardDevice,
  getWireguardDevice,
  setWireguardDevice,
  wireguardFamilyName,
} from "#netlink/generic/wireguard.ts";
import { NetlinkSocket, Protocol } from "#netlink/socket.ts";
import type { Control, DeviceChange, DeviceState } from "./control.ts";
import { keyBytes } from "./key.ts";

/** Peers in one message: an attribute ends at 64 KB, and one peer takes some 130 bytes. */
const peersAtOnce = 200;

/** WireGuard devices of the kernel's, in one namespace. */
export class KernelControl implements Control {
  readonly #namespace: NetworkNamespace;

  constructor(namespace: NetworkNamespace) {
    this.#namespace = namespace;
  }

  /** @throws {NetlinkError} */
  async read(device: string): Promise<DeviceState> {
    return await this.#with((socket, family) => {
      const state = decodeWireguardDevice(socket.dump(getWireguardDevice(family, device)));
      const peers = state.peers.map(({ publicKey, allowed, keepalive, lastHandshakeMs }) => {
        return [base64(publicKey), { allowed, keepalive, lastHandshakeMs }] as const;
      });
      return {
        publicKey: state.publicKey && base64(state.publicKey),
        port: state.port,
        peers: new Map(peers),
        received: state.peers.reduce((sum, { received }) => sum + received, 0n),
      };
    });
  }

  /** @throws {NetlinkError} */
  async change(device: string, { privateKey, port, peers }: DeviceChange): Promise<void> {
    await this.#with((socket, family) => {
      const own = { privateKey: privateKey === undefined ? undefined : keyBytes(privateKey), port };
      for (let at = 0; at === 0 || at < peers.length; at += peersAtOnce) {
        const part = peers
          .slice(at, at + peersAtOnce)
          .map((peer) => ({ ...peer, publicKey: keyBytes(peer.publicKey) }));
        socket.transact([setWireguardDevice(family, device, { ...(at === 0 ? own : {}), peers: part })]);
      }
    });
  }

  async #with<T>(action: (socket: NetlinkSocket, family: number) => T): Promise<T> {
    const socket = NetlinkSocket.open({ protocol: Protocol.Generic, namespaceFd: this.#namespace.fd });
    try {
      // The number may be another one after the module was unloaded and loaded.
      const [answers = []] = await socket.transactAsync([getFamily(wireguardFamilyName)]);
      const family = answers.map(decodeFamily).find(({ id }) => id !== undefined)?.id;
      if (family === undefined)
        throw new Error("The kernel does not tell the number of WireGuard's netlink family");
      return action(socket, family);
    } finally {
      socket.close();
    }
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64");
}
