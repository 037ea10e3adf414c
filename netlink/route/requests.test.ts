import { expect, test } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { parseMac } from "#net/mac.ts";
import { encodeRequests, type Message, messagesIn, type Request } from "#netlink/message.ts";
import { readCapturedMessage } from "#testing/capture.ts";
import { decodeAddress, newAddress } from "./address.ts";
import { addBridgeVlans, decodeBridgeVlans, deleteBridgeVlans } from "./bridge-vlan.ts";
import { decodeForwardingEntry, newForwardingEntry } from "./fdb.ts";
import { bridgePort } from "./kind/bridge-port.ts";
import { IpvlanMode } from "./kind/ipvlan.ts";
import { decodeLink, newLink, setLink, vethPeer } from "./link.ts";
import { decodeNeighbor, NeighborState, newNeighbor } from "./neighbor.ts";
import { decodeRoute, newRoute } from "./route.ts";
import { decodeRule, newRule } from "./rule.ts";

// What iproute2 sends for a command, from testing/captures, against what we send for the same: also for kinds that the
// kernel of the test machine lacks. The order of attributes is nobody's business, so both are compared decoded.

function sameAs<T>(capture: string, request: Request, decode: (message: Message) => T): T {
  const theirs = readCapturedMessage(capture);
  const [ours] = messagesIn(encodeRequests([request], 1, 0));
  if (!ours) throw new Error("no message");
  expect(ours.type).toBe(theirs.type);
  expect(ours.flags).toBe(theirs.flags);
  const value = decode(ours);
  expect(value).toEqual(decode(theirs));
  return value;
}

test("newLink() asks for a vlan as iproute2 does", () => {
  const request = newLink({ name: "up0.5", kind: "vlan", parent: 3, vlan: { id: 5, protocol: 0x88a8 } });
  expect(sameAs("request-vlan", request, decodeLink)).toMatchObject({ vlan: { id: 5, protocol: 0x88a8 } });
});

test("newLink() asks for an ipvlan as iproute2 does", () => {
  const request = newLink({
    name: "ipv0",
    kind: "ipvlan",
    parent: 3,
    ipvlan: { mode: IpvlanMode.l3, flags: 1 },
  });
  expect(sameAs("request-ipvlan", request, decodeLink)).toMatchObject({ ipvlan: { mode: 1, flags: 1 } });
});

test("newLink() asks for a vrf and a dummy as iproute2 does", () => {
  const vrf = sameAs("request-vrf", newLink({ name: "vrf0", kind: "vrf", vrf: { table: 100 } }), decodeLink);
  expect(vrf).toMatchObject({ kind: "vrf", vrf: { table: 100 } });
  sameAs("request-dummy", newLink({ name: "dummy0", kind: "dummy", mtu: 1400 }), decodeLink);
});

test("newLink() asks for a veth pair as iproute2 does", () => {
  const peer = vethPeer({ name: "eth0", mtu: 1400, mac: parseMac("02:00:00:00:00:02") });
  const link = sameAs(
    "request-veth",
    newLink({ name: "veth0", kind: "veth", mtu: 1400, veth: { peer } }),
    decodeLink,
  );
  expect(link.veth?.peer?.attributes.name).toBe("eth0");
});

test("setLink() changes a bridge's port as iproute2 does", () => {
  const wanted = { hairpin: true, isolated: true, learning: false };
  const [ours] = messagesIn(encodeRequests([setLink(4, { bridgePort: wanted })], 1, 0));
  // iproute2 names a kind "bridge_slave", which the kernel does not know and does not need.
  const theirs = decodeLink(readCapturedMessage("request-bridge-port"));
  expect(theirs.kind).toBe("bridge_slave");
  expect(ours && decodeLink(ours).bridgePort).toEqual(wanted);
  expect(bridgePort.decode(theirs.otherPortData ?? new Uint8Array(0))).toEqual(wanted);
});

test("addBridgeVlans() and deleteBridgeVlans() ask as `bridge vlan` does", () => {
  const range = sameAs(
    "request-bridge-vlan-add",
    addBridgeVlans({ ifindex: 3, vlans: [{ id: 10, lastId: 20 }] }),
    decodeBridgeVlans,
  );
  expect(range.vlans).toMatchObject([{ id: 10, lastId: 20 }]);
  const pvid = { id: 5, pvid: true, untagged: true };
  sameAs("request-bridge-vlan-pvid", addBridgeVlans({ ifindex: 3, vlans: [pvid] }), decodeBridgeVlans);
  sameAs(
    "request-bridge-vlan-self",
    deleteBridgeVlans({ ifindex: 2, self: true, vlans: [{ id: 5 }] }),
    (message) =>
      // By bytes: the flag that means the bridge itself is not in what decodeBridgeVlans() returns. Only iproute2 leaves
      // out that IFLA_AF_SPEC is nested.
      Buffer.from(message.body).toString("hex").replace("1a80", "1a00"),
  );
});

test("newAddress() asks as `ip addr add` does", () => {
  const address = parseCidr("10.1.2.3/24");
  sameAs(
    "request-address",
    newAddress({ ifindex: 3, address, broadcast: parseIp("10.1.2.255"), noPrefixRoute: true }),
    decodeAddress,
  );
});

test("newRoute() asks as `ip route append` does", () => {
  const route = {
    family: 4,
    destination: parseCidr("10.5.0.0/16"),
    gateway: parseIp("10.0.0.254"),
    ifindex: 3,
    onLink: true,
    metric: 50,
    mtu: 1400,
    table: 1000,
    protocol: 4,
    presence: "append",
  } as const;
  expect(sameAs("request-route", newRoute(route), decodeRoute)).toMatchObject({ onLink: true, table: 1000 });
});

test("newRule(), newNeighbor() and newForwardingEntry() ask as iproute2 does", () => {
  const from = parseCidr("10.0.0.0/8");
  sameAs(
    "request-rule",
    newRule({ family: 4, priority: 100, from, mark: 0x10, mask: 0xff, table: 1000, suppressPrefixLength: 0 }),
    decodeRule,
  );
  const ip = parseIp("10.0.0.9");
  sameAs(
    "request-neighbor",
    newNeighbor({ ifindex: 3, ip, mac: parseMac("02:00:00:00:00:09"), replace: true }),
    decodeNeighbor,
  );
  sameAs(
    "request-fdb",
    newForwardingEntry({
      ifindex: 2,
      mac: parseMac("02:00:00:00:00:07"),
      destination: parseIp("192.0.2.7"),
      port: 4790,
      vni: 43,
      state: NeighborState.permanent | NeighborState.noArp,
      presence: "append",
    }),
    decodeForwardingEntry,
  );
});
