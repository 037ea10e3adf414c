import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Message } from "#netlink/message.ts";
import { decodeWireguardDevice, setWireguardDevice } from "./wireguard.ts";

const message = (body: Uint8Array): Message => ({ type: 0x1d, flags: 2, sequence: 1, port: 1, body });
const key = (byte: number): Uint8Array => new Uint8Array(32).fill(byte);

describe("a WireGuard device", () => {
  it("is read as it was written", () => {
    const peers = [
      {
        publicKey: key(1),
        endpoint: { ip: parseIp("203.0.113.2"), port: 51842 },
        allowed: [parseCidr("fe80::2/128"), parseCidr("10.0.0.0/8")],
        keepalive: 25,
      },
      { publicKey: key(2), endpoint: { ip: parseIp("2001:db8::2"), port: 7 }, allowed: [], keepalive: 0 },
    ];
    const { body } = setWireguardDevice(0x1d, "wg0", { privateKey: key(9), port: 51842, peers });
    expect(decodeWireguardDevice([message(body)])).toEqual({
      publicKey: undefined,
      port: 51842,
      peers: peers.map((peer) => ({ ...peer, lastHandshakeMs: 0, received: 0n })),
    });
  });

  it("has all networks of a peer that goes on in the next message", () => {
    const part = (allowed: string) => {
      const peers = [{ publicKey: key(1), allowed: [parseCidr(allowed)] }];
      return message(setWireguardDevice(0x1d, "wg0", { peers }).body);
    };
    const { peers } = decodeWireguardDevice([part("10.1.0.0/16"), part("10.2.0.0/16")]);
    expect(peers.map(({ allowed }) => allowed)).toEqual([
      [parseCidr("10.1.0.0/16"), parseCidr("10.2.0.0/16")],
    ]);
  });

  it("is laid out as the kernel's header has it", () => {
    const { type, body } = setWireguardDevice(0x1d, "wg0", {
      port: 0x1234,
      peers: [{ publicKey: key(0xaa), remove: true }],
    });
    expect(type).toBe(0x1d);
    const attribute = (kind: number, payload: string) => {
      const length = 4 + payload.length / 2;
      const head = Buffer.alloc(4);
      head.writeUInt16LE(length, 0);
      head.writeUInt16LE(kind, 2);
      return head.toString("hex") + payload + "00".repeat((4 - (length % 4)) % 4);
    };
    const peer = attribute(0x8000, attribute(1, "aa".repeat(32)) + attribute(3, "01000000"));
    // genlmsghdr: WG_CMD_SET_DEVICE, version 1; then WGDEVICE_A_IFNAME, LISTEN_PORT, PEERS
    const expected = `01010000${attribute(2, "77673000")}${attribute(6, "3412")}${attribute(0x8008, peer)}`;
    expect(Buffer.from(body).toString("hex")).toBe(expected);
  });

  it("throws DecodeError and nothing else, wherever the message ends and whatever is in it", () => {
    const { body } = setWireguardDevice(0x1d, "wg0", {
      port: 1,
      peers: [
        {
          publicKey: key(1),
          endpoint: { ip: parseIp("203.0.113.2"), port: 1 },
          allowed: [parseCidr("::/0")],
        },
      ],
    });
    const decodes = (bytes: Uint8Array) => {
      try {
        decodeWireguardDevice([message(bytes)]);
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError);
      }
    };
    for (let length = 0; length < body.length; length++) decodes(body.subarray(0, length));
    fc.assert(
      fc.property(fc.nat(body.length - 1), fc.nat(255), (at, byte) => {
        const damaged = Uint8Array.from(body);
        damaged[at] = byte;
        decodes(damaged);
      }),
    );
  });
});
