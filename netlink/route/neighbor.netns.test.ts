import { afterEach, beforeEach, expect, test } from "vitest";
import { equalIp, formatIp, parseIp } from "#net/ip.ts";
import { parseMac } from "#net/mac.ts";
import { Errno } from "#netlink/errno.ts";
import { readWithPackage } from "#testing/netlink-package.ts";
import { testWith } from "#testing/requires.ts";
import { RouteSocket } from "#testing/route-socket.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import {
  decodeForwardingEntry,
  deleteForwardingEntry,
  getForwardingEntries,
  newForwardingEntry,
} from "./fdb.ts";
import { decodeNeighbor, deleteNeighbor, getNeighbors, NeighborState, newNeighbor } from "./neighbor.ts";

const mac = parseMac("02:00:00:00:00:77");

let namespace: TestNamespace;
let route: RouteSocket;
let ifindex: number;

beforeEach(() => {
  namespace = TestNamespace.create("neighbor");
  namespace.run("ip link add a0 type veth peer b0; ip link set a0 up; ip link set b0 up");
  route = new RouteSocket(namespace);
  ifindex = route.ifindex(namespace, "a0");
});

afterEach(() => {
  route.close();
  namespace.remove();
});

test("newNeighbor() adds permanent entries and proxies, deleteNeighbor() takes them away", () => {
  for (const text of ["10.0.0.9", "2001:db8::9"]) {
    const ip = parseIp(text);
    const entry = newNeighbor({ ifindex, ip, mac });
    route.send(entry);
    expect(namespace.json(`ip -j neigh show to ${text}`)).toMatchObject([
      { dst: text, dev: "a0", lladdr: mac, state: ["PERMANENT"] },
    ]);
    expect(() => route.send(entry)).toThrow(expect.objectContaining({ errno: Errno.EEXIST }));
    const other = parseMac("02:00:00:00:00:78");
    route.send(newNeighbor({ ifindex, ip, mac: other, replace: true, state: NeighborState.reachable }));
    const read = route
      .all(getNeighbors({ ifindex, family: ip.family }), decodeNeighbor)
      .find((n) => equalIp(n.ip, ip));
    expect(read).toMatchObject({ ifindex, ip, mac: other, state: NeighborState.reachable });
    route.send(deleteNeighbor({ ifindex, ip }));
    // The kernel keeps what was looked at lately, without address.
    expect(namespace.json<{ lladdr?: string }>(`ip -j neigh show to ${text} nud permanent`)).toEqual([]);

    route.send(newNeighbor({ ifindex, ip, proxy: true }));
    expect(namespace.json(`ip -j neigh show proxy`)).toMatchObject([{ dst: text, dev: "a0" }]);
    expect(route.all(getNeighbors({ proxy: true }), decodeNeighbor).map((n) => formatIp(n.ip))).toEqual([
      text,
    ]);
    route.send(deleteNeighbor({ ifindex, ip, proxy: true }));
    expect(() => route.send(deleteNeighbor({ ifindex, ip, proxy: true }))).toThrow(
      expect.objectContaining({ errno: Errno.ENOENT }),
    );
  }
});

test("getNeighbors() reads what the npm package `netlink` reads", () => {
  namespace.run(`ip neigh add 10.0.0.5 lladdr 02:00:00:00:00:05 dev a0 nud permanent
    ip neigh add 2001:db8::5 lladdr 02:00:00:00:00:06 dev b0 nud permanent`);
  const ours = route
    .all(getNeighbors(), decodeNeighbor)
    .filter(({ state }) => state === NeighborState.permanent);
  const others = readWithPackage(namespace, "getNeighbors").filter(
    ({ data }) => "permanent" in Object(data["state"]),
  );
  const hex = (text: string | undefined) => text?.replaceAll(":", "");
  expect(ours.map((n) => `${n.ifindex} ${hex(n.mac)}`).sort()).toEqual(
    others.map(({ data, attrs }) => `${String(data["ifindex"])} ${String(attrs["lladdr"])}`).sort(),
  );
  expect(ours).toHaveLength(2);
});

test("newForwardingEntry() adds a static entry to the bridge of a port", () => {
  namespace.run("ip link add br0 type bridge; ip link set a0 master br0; ip link set br0 up");
  const key = { ifindex, mac, table: "master" } as const;
  route.send(newForwardingEntry({ ...key, state: NeighborState.noArp }));
  const shown = namespace
    .json<{ mac: string; vlan?: number }>("bridge -j fdb show br br0")
    .filter((entry) => entry.mac === mac);
  // A kernel that can filter VLANs adds it to those of the port as well: br_fdb_add(), net/bridge/br_fdb.c.
  expect(shown.filter((entry) => entry.vlan === undefined)).toMatchObject([
    { ifname: "a0", master: "br0", state: "static" },
  ]);
  const entries = route.all(
    getForwardingEntries({ master: route.ifindex(namespace, "br0") }),
    decodeForwardingEntry,
  );
  expect(entries.find((entry) => entry.mac === mac)).toMatchObject({ ifindex, state: NeighborState.noArp });
  route.send(deleteForwardingEntry(key));
  expect(() => route.send(deleteForwardingEntry(key))).toThrow(
    expect.objectContaining({ errno: Errno.ENOENT }),
  );
});

testWith(["vxlan"], "newForwardingEntry() adds remote ends to a tunnel, several for one address", () => {
  namespace.run("ip link add vx0 type vxlan id 5 dstport 4789 nolearning; ip link set vx0 up");
  const tunnel = { ifindex: route.ifindex(namespace, "vx0") };
  const everybody = parseMac("00:00:00:00:00:00");
  route.send(newForwardingEntry({ ...tunnel, mac, destination: parseIp("192.0.2.7") }));
  for (const end of ["192.0.2.8", "192.0.2.9"]) {
    route.send(
      newForwardingEntry({ ...tunnel, mac: everybody, destination: parseIp(end), presence: "append" }),
    );
  }
  const shown = namespace.json<{ mac: string; dst: string; flags: string[]; state: string }>(
    "bridge -j fdb show dev vx0",
  );
  expect(shown.map((entry) => `${entry.mac} ${entry.dst} ${entry.state}`)).toEqual(
    expect.arrayContaining([
      `${mac} 192.0.2.7 permanent`,
      `${everybody} 192.0.2.8 permanent`,
      `${everybody} 192.0.2.9 permanent`,
    ]),
  );
  const ends = () =>
    route
      .all(getForwardingEntries(tunnel), decodeForwardingEntry)
      .map((entry) => `${entry.mac} ${entry.destination ? formatIp(entry.destination) : ""}`)
      .sort();
  expect(ends()).toEqual([`${everybody} 192.0.2.8`, `${everybody} 192.0.2.9`, `${mac} 192.0.2.7`]);
  route.send(deleteForwardingEntry({ ...tunnel, mac: everybody, destination: parseIp("192.0.2.8") }));
  expect(ends()).toEqual([`${everybody} 192.0.2.9`, `${mac} 192.0.2.7`]);
});
