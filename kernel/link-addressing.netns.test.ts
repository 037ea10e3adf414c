import { expect, test } from "vitest";
import { parseIfName } from "#net/ifname.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { requireLink } from "./link.ts";
import { readLinkAddressing, restoreLinkAddressing } from "./link-addressing.ts";
import { NetworkNamespace } from "./namespace.ts";

test("a link that was down keeps its addresses and routes", () => {
  using at = TestNamespace.create("addressing");
  at.run(`ip link add eth0 type veth peer name far0; ip link set eth0 up; ip link set far0 up
    ip addr add 10.1.0.2/24 dev eth0; ip addr add fd00:1::2/64 dev eth0 nodad
    ip route add default via 10.1.0.1; ip -6 route add default via fd00:1::1
    ip route add 192.0.2.0/24 via 10.1.0.3 metric 7 mtu 1400`);
  const look = () =>
    at.run(
      "ip -o addr show dev eth0 scope global; ip route; ip -6 route show default; ip -6 route show fd00:1::/64",
    );
  const before = look();
  using namespace = NetworkNamespace.open(at.path);
  const { ifindex } = requireLink(namespace, parseIfName("eth0"));
  const addressing = readLinkAddressing(namespace, ifindex);
  at.run("ip link set eth0 down; ip link set eth0 up");
  expect(look()).not.toBe(before);
  restoreLinkAddressing(namespace, ifindex, addressing);
  const withoutTimes = (text: string) =>
    text
      .replace(/ valid_lft.*/g, "")
      .split("\n")
      .sort();
  expect(withoutTimes(look())).toEqual(withoutTimes(before));
  restoreLinkAddressing(namespace, ifindex, addressing);
  expect(withoutTimes(look())).toEqual(withoutTimes(before));
});
