import { afterEach, beforeEach, expect, test } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { Errno } from "#netlink/errno.ts";
import { readWithPackage } from "#testing/netlink-package.ts";
import { RouteSocket } from "#testing/route-socket.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { decodeRule, deleteRule, getRules, newRule, type Rule, RuleAction } from "./rule.ts";

let namespace: TestNamespace;
let route: RouteSocket;

beforeEach(() => {
  namespace = TestNamespace.create("rule");
  route = new RouteSocket(namespace);
});

afterEach(() => {
  route.close();
  namespace.remove();
});

test("newRule() sets what iproute2 reads, and reads it back", () => {
  const rule: Rule = {
    family: 4,
    priority: 100,
    from: parseCidr("10.0.0.0/8"),
    to: parseCidr("192.0.2.0/24"),
    inputName: "eth7",
    mark: 0x10,
    mask: 0xff,
    table: 1000,
    suppressPrefixLength: 0,
    ipProtocol: 6,
    destinationPorts: { start: 80, end: 90 },
    protocol: 4,
  };
  route.send(newRule(rule));
  expect(namespace.json("ip -j -d rule show pref 100")).toMatchObject([
    {
      src: "10.0.0.0",
      srclen: 8,
      dst: "192.0.2.0",
      dstlen: 24,
      iif: "eth7",
      fwmark: "0x10",
      fwmask: "0xff",
      table: "1000",
      suppress_prefixlen: 0,
      ipproto: "tcp",
      dport_start: 80,
      dport_end: 90,
      protocol: "static",
    },
  ]);
  const read = route.all(getRules(4), decodeRule).find(({ priority }) => priority === 100);
  expect(read).toMatchObject({ ...rule, action: RuleAction.lookup, invert: false, l3mdev: false });
  expect(() => route.send(newRule(rule))).toThrow(expect.objectContaining({ errno: Errno.EEXIST }));
});

test("newRule() refuses, inverts and works for IPv6", () => {
  route.send(
    newRule({ family: 6, priority: 7, from: parseCidr("2001:db8::/32"), action: RuleAction.prohibit }),
  );
  route.send(newRule({ family: 6, priority: 8, to: parseCidr("2001:db8::/32"), invert: true, table: 50 }));
  expect(namespace.json("ip -j -6 rule show pref 7")).toMatchObject([
    { src: "2001:db8::", action: "prohibit" },
  ]);
  expect(namespace.json("ip -j -6 rule show pref 8")).toMatchObject([
    { not: null, dst: "2001:db8::", table: "50" },
  ]);
});

test("deleteRule() takes the one that matches, and reports ENOENT where none does", () => {
  const rule: Rule = { family: 4, from: parseCidr("10.0.0.5/32"), table: 100 };
  route.send(newRule(rule));
  route.send(deleteRule(rule));
  expect(namespace.json("ip -j rule show table 100")).toEqual([]);
  expect(() => route.send(deleteRule(rule))).toThrow(expect.objectContaining({ errno: Errno.ENOENT }));
});

test("getRules() reads what the npm package `netlink` reads", () => {
  namespace.run("ip rule add from 10.2.0.0/16 table 300 pref 9; ip rule add fwmark 5 table 20");
  const ours = [...route.all(getRules(4), decodeRule), ...route.all(getRules(6), decodeRule)];
  // It asks for all families, which has the multicast routers answer too.
  const others = readWithPackage(namespace, "getRules").filter(({ data }) => Number(data["family"]) < 128);
  expect(others.map(({ attrs }) => [attrs["table"], attrs["priority"] ?? 0])).toEqual(
    ours.map(({ table, priority }) => [table, priority]),
  );
  const names = new Map([
    [255, "local"],
    [254, "main"],
    [253, "default"],
  ]);
  const shown = ["ip -j rule", "ip -j -6 rule"].flatMap((command) =>
    namespace.json<{ table: string }>(command),
  );
  expect(ours.map(({ table = 0 }) => names.get(table) ?? String(table))).toEqual(
    shown.map(({ table }) => table),
  );
});
