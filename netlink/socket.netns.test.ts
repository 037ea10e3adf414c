import { readlinkSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "vitest";
import { addToIp, parseIp } from "#net/ip.ts";
import { RouteSocket } from "#testing/route-socket.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { Errno } from "./errno.ts";
import { decodeAddress, getAddresses, newAddress } from "./route/address.ts";
import { RouteGroup } from "./route/constant.ts";
import { decodeLink, firstLink, getLink, newLink, setLink } from "./route/link.ts";
import { NetlinkSocket, Protocol } from "./socket.ts";

let namespace: TestNamespace;
let route: RouteSocket;

beforeEach(() => {
  namespace = TestNamespace.create("socket");
  route = new RouteSocket(namespace);
});

afterEach(() => {
  route.close();
  namespace.remove();
});

test("a socket acts in its namespace although its process is in another", () => {
  route.send(newLink({ name: "only-here", kind: "bridge" }));
  expect(namespace.json("ip -j link show only-here")).toHaveLength(1);
  expect(readlinkSync("/proc/self/ns/net")).not.toBe(readlinkSync(`/proc/self/fd/${route.namespaceFd}`));
  const own = NetlinkSocket.open({ protocol: Protocol.Route });
  expect(() => own.transact([getLink("only-here")])).toThrow(
    expect.objectContaining({ errno: Errno.ENODEV }),
  );
  own.close();
});

test("transact() gets an answer to each of two thousand requests in one datagram", () => {
  const first = parseIp("10.0.0.1");
  const ifindex = route.ifindex(namespace, "lo");
  const requests = Array.from({ length: 2000 }, (_, index) =>
    newAddress({ ifindex, address: { address: addToIp(first, index), prefixLength: 32 } }),
  );
  route.socket.transact(requests);
  const outcomes = route.socket.attempt(requests);
  expect(outcomes.every(({ error }) => error?.errno === Errno.EEXIST)).toBe(true);
  // Far more than one datagram: the dump is read to its end.
  const addresses = route.all(getAddresses({ family: 4 }), decodeAddress);
  expect(new Set(addresses.map(({ address }) => address.address.value)).size).toBe(2001);
});

test("transactAsync() does the same beside the event loop", async () => {
  const messages = await route.socket.transactAsync([
    newLink({ name: "br0", kind: "bridge" }),
    getLink("br0"),
  ]);
  expect(firstLink(messages[1] ?? [])?.name).toBe("br0");
  await expect(route.socket.transactAsync([setLink("nope", { up: true })])).rejects.toMatchObject({
    errno: Errno.ENODEV,
    op: 'change link "nope"',
  });
});

test("open() names a family that the kernel lacks", () => {
  expect(() => NetlinkSocket.open({ protocol: 31 })).toThrow(
    "Cannot open a netlink socket: protocol not supported by this kernel (EPROTONOSUPPORT)",
  );
});

test("receive() hands over what a group was told meanwhile", () => {
  const monitor = NetlinkSocket.open({ protocol: Protocol.Route, namespaceFd: route.namespaceFd });
  monitor.join(RouteGroup.Link);
  expect(monitor.receive()).toEqual([]);
  route.send(newLink({ name: "br0", kind: "bridge" }));
  expect(monitor.receive().map((message) => decodeLink(message).name)).toContain("br0");
  expect(monitor.receive()).toEqual([]);
  monitor.close();
});
