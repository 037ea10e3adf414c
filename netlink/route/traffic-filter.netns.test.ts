import { afterEach, beforeEach, expect } from "vitest";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Message } from "#netlink/message.ts";
import { testWith } from "#testing/requires.ts";
import { RouteSocket } from "#testing/route-socket.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { newLink } from "./link.ts";
import { decodeQdisc, deleteQdisc, getQdisc, newQdisc } from "./qdisc.ts";
import { decodeTrafficClass, getTrafficClasses, newTrafficClass } from "./traffic-class.ts";
import {
  arrivingParent,
  decodeTrafficFilter,
  deleteTrafficFilters,
  EtherType,
  getTrafficFilters,
  newTrafficFilter,
  type TrafficFilter,
} from "./traffic-filter.ts";

let namespace: TestNamespace;
let route: RouteSocket;
let ifindex: number;

beforeEach(() => {
  namespace = TestNamespace.create("filter");
  namespace.run("ip link add a0 type veth peer b0; ip link set a0 up; ip link set b0 up");
  route = new RouteSocket(namespace);
  ifindex = route.ifindex(namespace, "a0");
});

afterEach(() => {
  route.close();
  namespace.remove();
});

const parent = 0x10000;

testWith(["htb"], "a class below a hierarchical token bucket is what tc reads", () => {
  for (const bytesPerSecond of [125_000n, 8_000_000_000n]) {
    route.send(
      newQdisc({ ifindex, kind: "htb", handle: parent, hierarchy: { defaultClass: 1 }, replace: true }),
    );
    route.send(newTrafficClass({ ifindex, classId: parent | 1, bytesPerSecond, burstBytes: 50_000 }));
    route.send(newQdisc({ ifindex, kind: "bfifo", parent: parent | 1, fifo: { limitBytes: 30_000 } }));
    const shown = namespace.json<{ kind: string; options: object }>("tc -j qdisc show dev a0");
    expect(shown).toMatchObject([
      { kind: "htb", handle: "1:", root: true, options: { default: "0x1" } },
      { kind: "bfifo", parent: "1:1", options: { limit: 30_000 } },
    ]);
    expect(namespace.run("tc -s class show dev a0")).toContain(
      bytesPerSecond > 1_000_000n
        ? "rate 64Gbit ceil 64Gbit"
        : "rate 1Mbit ceil 1Mbit burst 50000b cburst 50000b",
    );
    const [answer] = route.send(getQdisc({ ifindex }));
    expect(answer && decodeQdisc(answer)).toMatchObject({ kind: "htb", hierarchy: { defaultClass: 1 } });
    const [read] = route.all(getTrafficClasses(ifindex), decodeTrafficClass);
    expect(read).toMatchObject({ ifindex, classId: parent | 1, bytesPerSecond });
    expect(Math.abs((read?.burstBytes ?? 0) - 50_000)).toBeLessThan(600);
    route.send(deleteQdisc({ ifindex }));
  }
});

testWith(["htb", "u32"], "a filter gives packets to a class, by addresses of both families", () => {
  route.send(newQdisc({ ifindex, kind: "htb", handle: parent, hierarchy: { defaultClass: 1 } }));
  const filters: readonly TrafficFilter[] = [
    {
      ifindex,
      parent,
      priority: 5,
      protocol: EtherType.ipv4,
      keys: [{ offset: 12, mask: 0xffffff00, value: 0x0a010200 }],
      classId: parent,
      redirectTo: undefined,
    },
    {
      ifindex,
      parent,
      priority: 6,
      protocol: EtherType.ipv6,
      keys: [
        { offset: 8, mask: 0xffffffff, value: 0xfd000001 },
        { offset: 12, mask: 0xffff0000, value: 0x00020000 },
      ],
      classId: parent,
      redirectTo: undefined,
    },
  ];
  for (const filter of filters) route.send(newTrafficFilter(filter));
  const shown = namespace.run("tc -p filter show dev a0");
  expect(shown).toMatch(/protocol ip pref 5 u32 .*flowid 1:\s/);
  expect(shown).toContain("match IP src 10.1.2.0/24");
  expect(shown).toMatch(/protocol ipv6 pref 6 u32/);
  const read = route.all(getTrafficFilters({ ifindex, parent }), decodeTrafficFilter);
  expect(read.filter((each) => each !== undefined)).toEqual(filters);
  route.send(deleteTrafficFilters(filters[0] as TrafficFilter));
  expect(namespace.run("tc filter show dev a0")).not.toContain("pref 5");
});

testWith(["ifb", "u32", "mirred"], "a filter sends everything that arrives to another link", () => {
  route.send(newLink({ name: "ifb7", kind: "ifb", up: true }));
  const redirectTo = route.ifindex(namespace, "ifb7");
  for (const kind of ["ingress", "clsact"]) {
    route.send(newQdisc({ ifindex, kind }));
    const filter = {
      ifindex,
      parent: arrivingParent,
      priority: 9,
      protocol: EtherType.all,
      keys: [],
      redirectTo,
    };
    route.send(newTrafficFilter(filter));
    expect(namespace.run("tc filter show dev a0 ingress")).toContain(
      "mirred (Egress Redirect to device ifb7) stolen",
    );
    const [, ...read] = route
      .all(getTrafficFilters(filter), decodeTrafficFilter)
      .filter((each, index) => index === 0 || each !== undefined);
    expect(read).toMatchObject([filter]);
    route.send(deleteQdisc({ ifindex, parent: 0xfffffff1, handle: 0xffff0000 }));
  }
});

testWith(
  ["ifb", "u32", "mirred"],
  "decodeTrafficFilter() throws DecodeError for every truncation, and nothing else",
  () => {
    route.send(newQdisc({ ifindex, kind: "ingress" }));
    const key = { ifindex, parent: arrivingParent };
    const keys = [{ offset: 16, mask: 0xffffff00, value: 0x0a010200 }];
    route.send(
      newTrafficFilter({ ...key, priority: 9, protocol: EtherType.ipv4, keys, redirectTo: ifindex }),
    );
    const messages = route.all(getTrafficFilters(key), (message) => message);
    let truncations = 0;
    for (const message of messages) {
      for (let length = 0; length < message.body.length; length++) {
        const cut: Message = { ...message, body: message.body.subarray(0, length) };
        try {
          decodeTrafficFilter(cut);
        } catch (error) {
          expect(error).toBeInstanceOf(DecodeError);
          truncations++;
        }
      }
    }
    expect(truncations).toBeGreaterThan(20);
  },
);
