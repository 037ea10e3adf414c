import { expect, test } from "vitest";
import { NetworkNamespace } from "#kernel/namespace.ts";
import { parseCidr } from "#net/cidr.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { removeStaleGateways } from "./bridge-gateways.ts";
import { overlayBridgeName } from "./identity.ts";

test("gateways of blocks that were given back go, unless containers use them still", () => {
  const host = TestNamespace.create("gateways");
  const namespace = NetworkNamespace.open(host.path);
  try {
    const bridge = overlayBridgeName(7);
    host.run(`ip link add ${bridge} type bridge; ip link set ${bridge} up`);
    const addresses = [
      ["10.32.0.1/26", "own"],
      ["10.32.0.65/26", "given back"],
      ["10.32.0.129/26", "in use"],
      ["10.32.0.200/26", "no gateway"],
      ["10.99.0.1/26", "of no subnet"],
      ["10.32.1.1/24", "no block"],
      ["fd32::1:1/112", "given back"],
    ] as const;
    for (const [address] of addresses) host.run(`ip address add ${address} dev ${bridge} nodad`);
    const network = {
      vni: 7,
      subnets: [
        { cidr: parseCidr("10.32.0.0/16"), blockLength: 26 },
        { cidr: parseCidr("fd32::/64"), blockLength: 112 },
      ],
    };
    const own = [parseCidr("10.32.0.0/26")];
    const drop = () => removeStaleGateways(namespace, network, own, () => ["10.32.0.140"]);
    expect(drop()).toEqual([
      `remove address 10.32.0.65/26 of ${bridge}`,
      `remove address fd32::1:1/112 of ${bridge}`,
    ]);
    const left = host.json<{ addr_info: readonly { local: string; scope: string }[] }>(
      `ip -j address show dev ${bridge}`,
    );
    expect(
      left
        .flatMap((link) => link.addr_info.filter(({ scope }) => scope === "global"))
        .map((each) => each.local),
    ).toEqual(["10.32.0.1", "10.32.0.129", "10.32.0.200", "10.99.0.1", "10.32.1.1"]);
    expect(drop()).toEqual([]);
  } finally {
    namespace.close();
    host.remove();
  }
});
