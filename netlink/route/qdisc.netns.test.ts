import { afterEach, beforeEach, expect, test } from "vitest";
import { Errno } from "#netlink/errno.ts";
import { testWith } from "#testing/requires.ts";
import { RouteSocket } from "#testing/route-socket.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { addBridgeVlans, decodeBridgeVlans, deleteBridgeVlans, getBridgeVlans } from "./bridge-vlan.ts";
import { decodeQdisc, deleteQdisc, getQdisc, getQdiscs, newQdisc } from "./qdisc.ts";

let namespace: TestNamespace;
let route: RouteSocket;
let ifindex: number;

beforeEach(() => {
  namespace = TestNamespace.create("qdisc");
  namespace.run("ip link add a0 type veth peer b0; ip link set a0 up; ip link set b0 up");
  route = new RouteSocket(namespace);
  ifindex = route.ifindex(namespace, "a0");
});

afterEach(() => {
  route.close();
  namespace.remove();
});

testWith(["tbf"], "newQdisc() limits the rate, below and above 4 GiB/s", () => {
  for (const bytesPerSecond of [125_000n, 8_000_000_000n]) {
    const tokenBucket = { bytesPerSecond, burstBytes: 20_000, limitBytes: 30_000 };
    route.send(newQdisc({ ifindex, kind: "tbf", tokenBucket, replace: true }));
    const [shown] = namespace.json<{ options: { rate: number; burst: number } }>("tc -j qdisc show dev a0");
    expect(shown).toMatchObject({ kind: "tbf", root: true, options: { rate: Number(bytesPerSecond) } });
    // iproute2 counts in microseconds: 8 GB/s make 8000 bytes of one.
    expect(Math.abs((shown?.options.burst ?? 0) - 20_000)).toBeLessThanOrEqual(Number(bytesPerSecond) / 1e6);
    const [answer] = route.send(getQdisc({ ifindex }));
    const read = answer && decodeQdisc(answer);
    expect(read).toMatchObject({ kind: "tbf", tokenBucket: { bytesPerSecond, limitBytes: 30_000 } });
    // A tick is 64 ns, which is 512 bytes of it.
    expect(Math.abs((read?.tokenBucket?.burstBytes ?? 0) - 20_000)).toBeLessThan(600);
  }
  route.send(deleteQdisc({ ifindex }));
  expect(namespace.json("tc -j qdisc show dev a0")).toMatchObject([{ kind: "noqueue" }]);
  expect(() => route.send(deleteQdisc({ ifindex }))).toThrow(
    expect.objectContaining({ errno: Errno.ENOENT }),
  );
});

test("newQdisc() takes hold of what arrives", () => {
  route.send(newQdisc({ ifindex, kind: "ingress" }));
  expect(namespace.json("tc -j qdisc show dev a0 ingress")).toMatchObject([
    { kind: "ingress", handle: "ffff:" },
  ]);
  const kinds = route.all(getQdiscs(), decodeQdisc).filter((qdisc) => qdisc.ifindex === ifindex);
  expect(kinds.map(({ kind }) => kind)).toEqual(["noqueue", "ingress"]);
});

testWith(
  ["bridge-vlan-filtering"],
  "addBridgeVlans() lets VLANs through a port, deleteBridgeVlans() no more",
  () => {
    namespace.run(
      "ip link add br0 type bridge vlan_filtering 1 vlan_default_pvid 0; ip link set a0 master br0",
    );
    const vlans = [
      { id: 5, pvid: true, untagged: true },
      { id: 10, lastId: 20, pvid: false, untagged: false },
    ];
    route.send(addBridgeVlans({ ifindex, vlans }));
    expect(namespace.json("bridge -compressvlans -j vlan show dev a0")).toMatchObject([
      {
        ifname: "a0",
        vlans: [
          { vlan: 5, flags: ["PVID", "Egress Untagged"] },
          { vlan: 10, vlanEnd: 20 },
        ],
      },
    ]);
    expect(
      route.all(getBridgeVlans(), decodeBridgeVlans).find((port) => port.ifindex === ifindex)?.vlans,
    ).toEqual(vlans);
    route.send(deleteBridgeVlans({ ifindex, vlans: [{ id: 10, lastId: 20 }] }));
    expect(namespace.json("bridge -compressvlans -j vlan show dev a0")).toMatchObject([
      { vlans: [{ vlan: 5 }] },
    ]);
  },
);
