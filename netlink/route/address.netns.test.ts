import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { formatCidr, parseCidr } from "#net/cidr.ts";
import { formatIp, parseIp } from "#net/ip.ts";
import { Errno } from "#netlink/errno.ts";
import { readWithPackage } from "#testing/netlink-package.ts";
import { RouteSocket } from "#testing/route-socket.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { decodeAddress, deleteAddress, getAddresses, newAddress } from "./address.ts";

interface IpAddressInfo {
  readonly local: string;
  readonly prefixlen: number;
  readonly broadcast?: string;
  readonly address?: string;
  readonly scope: string;
  readonly label?: string;
  readonly metric?: number;
  readonly tentative?: boolean;
  readonly nodad?: boolean;
  readonly noprefixroute?: boolean;
  readonly valid_life_time: number;
}

let namespace: TestNamespace;
let route: RouteSocket;
let ifindex: number;

beforeEach(() => {
  namespace = TestNamespace.create("address");
  namespace.run("ip link add a0 type veth peer b0; ip link set a0 up; ip link set b0 up");
  route = new RouteSocket(namespace);
  ifindex = route.ifindex(namespace, "a0");
});

afterEach(() => {
  route.close();
  namespace.remove();
});

function shown(): readonly IpAddressInfo[] {
  const [link] = namespace.json<{ addr_info: readonly IpAddressInfo[] }>("ip -j addr show dev a0");
  return (link?.addr_info ?? []).filter(({ local }) => !local.startsWith("fe80"));
}

describe("newAddress()", () => {
  test("adds an IPv4 address with its broadcast address", () => {
    const address = parseCidr("10.1.2.3/24");
    route.send(newAddress({ ifindex, address, broadcast: parseIp("10.1.2.255"), label: "a0:x", metric: 7 }));
    expect(shown()).toMatchObject([
      {
        local: "10.1.2.3",
        prefixlen: 24,
        broadcast: "10.1.2.255",
        scope: "global",
        label: "a0:x",
        metric: 7,
      },
    ]);
    expect(namespace.json("ip -j route show 10.1.2.0/24")).toMatchObject([{ metric: 7 }]);
  });

  test("adds an IPv6 address that can be used at once", () => {
    route.send(newAddress({ ifindex, address: parseCidr("2001:db8::1/64"), noDad: true }));
    const [seen] = shown();
    expect(seen).toMatchObject({ local: "2001:db8::1", prefixlen: 64, nodad: true });
    expect(seen?.tentative).toBeUndefined();
  });

  test("leaves the prefix route out", () => {
    route.send(newAddress({ ifindex, address: parseCidr("10.1.2.3/24"), noPrefixRoute: true }));
    expect(shown()).toMatchObject([{ noprefixroute: true }]);
    expect(namespace.json("ip -j route show")).toEqual([]);
  });

  test("knows the other end, scope and lifetime", () => {
    route.send(
      newAddress({
        ifindex,
        address: parseCidr("10.1.2.3/32"),
        peer: parseIp("10.1.2.4"),
        scope: 253,
        validSeconds: 1000,
        preferredSeconds: 900,
      }),
    );
    expect(shown()).toMatchObject([{ local: "10.1.2.3", address: "10.1.2.4", scope: "link" }]);
    const [read] = route.all(getAddresses({ ifindex, family: 4 }), decodeAddress);
    expect(read && formatIp(read.peer ?? read.address.address)).toBe("10.1.2.4");
    expect(read?.validSeconds).toBeGreaterThan(990);
    expect(read?.preferredSeconds).toBeLessThanOrEqual(900);
  });

  test("refuses an address that is there, unless it may replace it", () => {
    const address = { ifindex, address: parseCidr("10.1.2.3/24") };
    route.send(newAddress(address));
    expect(() => route.send(newAddress(address))).toThrow(
      expect.objectContaining({
        errno: Errno.EEXIST,
        message: expect.stringContaining(`Cannot add address 10.1.2.3/24 to link ${ifindex}`),
      }),
    );
    route.send(newAddress({ ...address, replace: true, validSeconds: 50, preferredSeconds: 50 }));
    expect(shown()[0]?.valid_life_time).toBeLessThanOrEqual(50);
  });
});

test("deleteAddress() takes it away, and reports EADDRNOTAVAIL where it is not", () => {
  for (const text of ["10.1.2.3/24", "2001:db8::1/64"]) {
    const address = { ifindex, address: parseCidr(text) };
    route.send(newAddress(address));
    route.send(deleteAddress(address));
    expect(shown()).toEqual([]);
    expect(() => route.send(deleteAddress(address))).toThrow(
      expect.objectContaining({ errno: Errno.EADDRNOTAVAIL }),
    );
  }
});

test("getAddresses() reads what iproute2 and the npm package `netlink` read", () => {
  namespace.run(`ip addr add 10.1.2.3/24 brd + dev a0; ip addr add 10.1.2.9/24 dev a0
    ip addr add 2001:db8::5/64 dev a0 nodad; ip addr add 10.3.0.1 peer 10.3.0.2/32 dev b0`);
  const ours = route.all(getAddresses(), decodeAddress);
  const ip = namespace.json<{ ifindex: number; addr_info: readonly IpAddressInfo[] }>("ip -j addr show");
  const key = (parts: readonly unknown[]) => parts.join(" ");
  expect(
    ours.map((a) => key([a.ifindex, formatIp(a.address.address), a.address.prefixLength, a.label])).sort(),
  ).toEqual(
    ip.flatMap((l) => l.addr_info.map((a) => key([l.ifindex, a.local, a.prefixlen, a.label]))).sort(),
  );
  const others = readWithPackage(namespace, "getAddresses");
  expect(
    others.map(({ data, attrs }) =>
      key([data["index"], attrs["local"] ?? attrs["address"], data["prefixlen"]]),
    ),
  ).toEqual(
    ours.map((a) => {
      const hex = a.address.address.value.toString(16).padStart(a.address.address.family === 4 ? 8 : 32, "0");
      return key([a.ifindex, hex, a.address.prefixLength]);
    }),
  );
  const only = route.all(getAddresses({ ifindex, family: 6 }), decodeAddress);
  expect(only.map(({ address }) => formatCidr(address))).toContain("2001:db8::5/64");
  expect(only.every((address) => address.ifindex === ifindex && address.address.address.family === 6)).toBe(
    true,
  );
});
