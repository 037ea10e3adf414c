import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import { type Message, messagesIn } from "#netlink/message.ts";
import { captureNames, readCapture, readCapturedMessage } from "#testing/capture.ts";
import { decodeAddress } from "./address.ts";
import { decodeBridgeVlans } from "./bridge-vlan.ts";
import { decodeForwardingEntry } from "./fdb.ts";
import { decodeLink, decodeLinkSummary, type Link } from "./link.ts";
import { decodeNeighbor } from "./neighbor.ts";
import { decodeQdisc } from "./qdisc.ts";
import { decodeRoute } from "./route.ts";
import { decodeRule } from "./rule.ts";

// What the kernel sent is in testing/captures, with the commands that had made it so.

test("decodeLink() reads loopback", () => {
  const link = decodeLink(readCapturedMessage("link-lo"));
  expect(link).toMatchObject({
    ifindex: 1,
    name: "lo",
    type: 772,
    mtu: 65_536,
    up: true,
    mac: "00:00:00:00:00:00",
  });
  expect(link.kind).toBeUndefined();
  expect(link.master).toBeUndefined();
});

test("decodeLink() reads a bridge", () => {
  expect(decodeLink(readCapturedMessage("link-bridge"))).toMatchObject({
    name: "br0",
    kind: "bridge",
    up: true,
    mac: "02:00:00:00:00:01",
    bridge: { ageingTime: 12_300, priority: 4096, stpState: 0, nfCallIptables: false },
  });
});

test("decodeLink() reads a veth that is a bridge's port", () => {
  expect(decodeLink(readCapturedMessage("link-veth-port"))).toMatchObject({
    name: "veth0",
    altNames: ["other-name-of-veth0"],
    kind: "veth",
    alias: "a port",
    group: 17,
    portKind: "bridge",
    bridgePort: { hairpin: true, isolated: true, learning: false, unicastFlood: true },
    operState: "lowerlayerdown",
    statistics: { rxPackets: 0, txPackets: 0 },
  });
});

test("decodeLink() reads vxlan, macvlan and tap", () => {
  expect(decodeLink(readCapturedMessage("link-vxlan"))).toMatchObject({
    kind: "vxlan",
    vxlan: { id: 42, local: parseIp("192.0.2.1"), port: 4789, learning: false, ttl: 64 },
  });
  expect(decodeLink(readCapturedMessage("link-macvlan"))).toMatchObject({
    kind: "macvlan",
    macvlan: { mode: 4 },
  });
  expect(decodeLink(readCapturedMessage("link-tap"))).toMatchObject({
    kind: "tun",
    tun: { type: 2, persistent: true },
  });
});

test("decodeAddress() reads both families", () => {
  expect(decodeAddress(readCapturedMessage("address-v4"))).toMatchObject({
    address: parseCidr("10.1.2.3/24"),
    broadcast: parseIp("10.1.2.255"),
    label: "a0:x",
    metric: 7,
    scope: 0,
    validSeconds: 0xffffffff,
  });
  const v6 = decodeAddress(readCapturedMessage("address-v6"));
  expect(v6).toMatchObject({
    address: parseCidr("2001:db8::1/64"),
    validSeconds: 1000,
    preferredSeconds: 900,
  });
  expect(v6.flags & 2).toBe(2);
});

test("decodeRoute() reads gateways of any kind", () => {
  expect(decodeRoute(readCapturedMessage("route-v4"))).toMatchObject({
    family: 4,
    destination: parseCidr("10.5.0.0/16"),
    gateway: parseIp("10.0.0.254"),
    source: parseIp("10.0.0.1"),
    metric: 50,
    mtu: 1400,
    advertisedMss: 1300,
    table: 1000,
    protocol: 4,
  });
  expect(decodeRoute(readCapturedMessage("route-v4-multipath")).nextHops).toMatchObject([
    { gateway: parseIp("10.0.0.2"), weight: 1 },
    { gateway: parseIp("10.0.0.3"), weight: 5 },
  ]);
  expect(decodeRoute(readCapturedMessage("route-v4-via-v6")).gateway).toEqual(parseIp("2001:db8::fe"));
  const v6 = decodeRoute(readCapturedMessage("route-v6-default"));
  expect(v6).toMatchObject({ family: 6, gateway: parseIp("2001:db8::fe"), table: 254, metric: 1024 });
  expect(v6.destination).toBeUndefined();
});

test("decodeNeighbor(), decodeForwardingEntry(), decodeRule() and decodeQdisc() read theirs", () => {
  expect(decodeNeighbor(readCapturedMessage("neighbor"))).toMatchObject({
    ip: parseIp("10.0.0.9"),
    mac: "02:00:00:00:00:09",
    state: 0x80,
  });
  expect(decodeForwardingEntry(readCapturedMessage("fdb-vxlan"))).toMatchObject({
    mac: "02:00:00:00:00:07",
    destination: parseIp("192.0.2.7"),
    port: 4790,
    vni: 43,
  });
  expect(decodeRule(readCapturedMessage("rule"))).toMatchObject({
    priority: 100,
    invert: true,
    from: parseCidr("10.0.0.0/8"),
    to: parseCidr("192.0.2.0/24"),
    inputName: "eth7",
    mark: 0x10,
    mask: 0xff,
    table: 1000,
    suppressPrefixLength: 0,
    ipProtocol: 6,
    destinationPorts: { start: 80, end: 90 },
  });
  expect(decodeQdisc(readCapturedMessage("qdisc-tbf"))).toMatchObject({
    kind: "tbf",
    tokenBucket: { bytesPerSecond: 125_000n, burstBytes: 20_000, limitBytes: 30_000 },
  });
});

test.each(captureNames().filter((name) => name.startsWith("link-")))(
  "decodeLinkSummary() says of capture %s what decodeLink() says",
  (name) => {
    const { bridge, bridgePort, ...summary } = decodeLinkSummary(readCapturedMessage(name));
    const whole = decodeLink(readCapturedMessage(name));
    for (const [key, value] of Object.entries(summary)) expect(whole[key as keyof Link], key).toEqual(value);
    expect(bridge?.vlanFiltering).toBe(whole.bridge?.vlanFiltering);
    expect(bridge?.vlanDefaultPvid).toBe(whole.bridge?.vlanDefaultPvid);
    expect(bridgePort?.hairpin).toBe(whole.bridgePort?.hairpin);
    expect(bridgePort?.isolated).toBe(whole.bridgePort?.isolated);
  },
);

const decoders: Readonly<Record<string, (message: Message) => unknown>> = {
  link: (message) => [decodeLinkSummary(message), decodeLink(message)],
  address: decodeAddress,
  route: decodeRoute,
  neighbor: decodeNeighbor,
  fdb: decodeForwardingEntry,
  rule: decodeRule,
  qdisc: decodeQdisc,
};

function decodeOrDecodeError(decode: (message: Message) => unknown, message: Message): void {
  try {
    decode(message);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
  }
}

describe.each(captureNames().filter((name) => name.replace(/-.*/, "") in decoders))("capture %s", (name) => {
  const decode = decoders[name.replace(/-.*/, "")] ?? decodeBridgeVlans;
  const message = readCapturedMessage(name);

  test("is refused as a message at every cut", () => {
    const whole = readCapture(name);
    for (let length = 1; length < whole.length; length++) {
      expect(() => [...messagesIn(whole.subarray(0, length))], `${length} bytes`).toThrow(DecodeError);
    }
  });

  test("is decoded or refused with DecodeError at every cut of its content", () => {
    for (let length = 0; length < message.body.length; length++) {
      decodeOrDecodeError(decode, { ...message, body: message.body.subarray(0, length) });
    }
    expect(() => decode({ ...message, body: new Uint8Array(0) })).toThrow(DecodeError);
  });

  test("is decoded or refused with DecodeError whatever bytes are changed", () => {
    const change = fc.array(fc.tuple(fc.nat(message.body.length - 1), fc.nat(255)), { maxLength: 8 });
    fc.assert(
      fc.property(change, (changes) => {
        const body = Uint8Array.from(message.body);
        for (const [at, byte] of changes) body[at] = byte;
        decodeOrDecodeError(decode, { ...message, body });
      }),
    );
  });
});
