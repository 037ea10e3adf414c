import { describe, expect, it } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { isLinkLocal, parseIp } from "#net/ip.ts";
import type { End } from "./end.ts";
import { innerAddress, newPrivateKey, publicKeyOf } from "./key.ts";
import type { OwnKey, Slot } from "./key-file.ts";
import { choosePath } from "./path.ts";
import { nextStep, type RotationState } from "./rotation.ts";
import { decodeState, encodeChange } from "./uapi.ts";

/** By "wg genkey" and "wg pubkey". */
const [privateKey, publicKey] = [
  "CJ0VJT6mcWRhUeF+MNjE0WbS9rrIpgonwkSwCAOdyHY=",
  "A4D29xmphLAcSEMXp0mVgd9d8DFtR0Oam84U+KGsPgk=",
];

describe("a key", () => {
  it("is what WireGuard's own tools take it for", () => {
    expect(publicKeyOf(privateKey)).toBe(publicKey);
    expect(publicKeyOf(newPrivateKey())).toMatch(/^[A-Za-z0-9+/]{43}=$/);
    expect(() => publicKeyOf("AAAA")).toThrow("not the base64 of 32 bytes");
  });

  it("has a link-local address of its own", () => {
    expect(isLinkLocal(innerAddress(publicKey))).toBe(true);
    expect(innerAddress(publicKey)).not.toEqual(innerAddress(privateKey));
  });
});

describe("the userspace protocol", () => {
  const hex = (key: string) => Buffer.from(key, "base64").toString("hex");

  it("writes what is to change, own key first", () => {
    const text = encodeChange({
      privateKey,
      port: 51842,
      peers: [
        {
          publicKey,
          endpoint: { ip: parseIp("2001:db8::1"), port: 7 },
          allowed: [parseCidr("fe80::1/128")],
          keepalive: 5,
        },
        { publicKey, remove: true },
      ],
    });
    expect(text.split("\n")).toEqual([
      "set=1",
      `private_key=${hex(privateKey)}`,
      "listen_port=51842",
      `public_key=${hex(publicKey)}`,
      "endpoint=[2001:db8::1]:7",
      "persistent_keepalive_interval=5",
      "replace_allowed_ips=true",
      "allowed_ip=fe80::1/128",
      `public_key=${hex(publicKey)}`,
      "remove=true",
      "",
      "",
    ]);
  });

  it("reads a device", () => {
    const lines = [`private_key=${hex(privateKey)}`, "listen_port=51842", `public_key=${hex(publicKey)}`];
    lines.push("preshared_key=00", "protocol_version=1", "endpoint=203.0.113.2:51842");
    lines.push("last_handshake_time_sec=1700000000", "last_handshake_time_nsec=500000000");
    lines.push("tx_bytes=10", "rx_bytes=20", "persistent_keepalive_interval=5", "allowed_ip=fe80::1/128");
    lines.push("errno=0", "", "");
    const state = decodeState(lines.join("\n"));
    expect(state).toMatchObject({ publicKey, port: 51842, received: 20n });
    expect([...state.peers]).toEqual([
      [publicKey, { allowed: [parseCidr("fe80::1/128")], keepalive: 5, lastHandshakeMs: 1_700_000_000_500 }],
    ]);
    expect(decodeState(`private_key=${"0".repeat(64)}\nerrno=0\n\n`).publicKey).toBeUndefined();
  });
});

/** An end of this host that has shaken hands with these keys. */
const end = (slot: Slot, handshakes: Record<string, number> = {}): End => ({
  slot,
  name: `nx0${slot}` as End["name"],
  ifindex: slot === "a" ? 1 : 2,
  address: innerAddress(publicKey),
  handshakes: new Map(Object.entries(handshakes)),
  received: 0n,
});

describe("the way to another host", () => {
  it("is by the oldest keys until newer ones have met", () => {
    const [a, b] = [end("a"), end("b")];
    expect(choosePath([a, b], ["old", "new"])).toEqual({ end: a, publicKey: "old" });
    const met = end("a", { old: 5, new: 6 });
    expect(choosePath([met, b], ["old", "new"])).toEqual({ end: met, publicKey: "new" });
    const own = end("b", { old: 7 });
    expect(choosePath([met, own], ["old", "new"])).toEqual({ end: own, publicKey: "old" });
  });

  it("is none without a key on either side", () => {
    expect(choosePath([end("a")], [])).toBeUndefined();
    expect(choosePath([], ["old"])).toBeUndefined();
  });
});

describe("a change of keys", () => {
  const key = (slot: Slot, isRetired = false): OwnKey => ({ slot, privateKey, port: 1, isRetired });
  const nowMs = 1_700_000_000_000;
  const state = (more: Partial<RotationState>): RotationState => ({
    keys: [key("a"), key("b")],
    ends: [end("a", { p: nowMs }), end("b")],
    peers: [{ name: "h2", keys: ["p"] }],
    sinceMs: 0,
    nowMs,
    quietLooks: 0,
    ...more,
  });

  it("is none with one key", () => {
    expect(nextStep(state({ keys: [key("a")] }))).toBeUndefined();
  });

  it("waits for every host that is heard of, however long it takes", () => {
    expect(nextStep(state({}))).toBeUndefined();
    expect(nextStep(state({ sinceMs: 1e9 }))).toBeUndefined();
    const met = [end("a", { p: nowMs }), end("b", { p: nowMs })];
    expect(nextStep(state({ ends: met }))?.keys).toEqual([key("a", true), key("b")]);
  });

  it("waits ten minutes for one that is not", () => {
    const silent = [end("a", { p: nowMs - 700_000 }), end("b")];
    expect(nextStep(state({ ends: silent, sinceMs: 599_000 }))).toBeUndefined();
    expect(nextStep(state({ ends: silent, sinceMs: 601_000 }))?.keys[0]?.isRetired).toBe(true);
  });

  it("ends when nothing comes by the old key any more", () => {
    const keys = [key("a", true), key("b")];
    expect(nextStep(state({ keys, quietLooks: 19 }))).toBeUndefined();
    expect(nextStep(state({ keys, quietLooks: 20 }))?.keys).toEqual([key("b")]);
  });
});
