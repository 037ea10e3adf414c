import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { parseMac } from "#net/mac.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { addAddress, readAddresses, removeAddress } from "./address.ts";
import { ensureBridge, readBridge, startBridgePort } from "./bridge.ts";
import { ensureForwarding } from "./forwarding.ts";
import { announce, configureInterface } from "./interface.ts";
import { listLinks, readEachLink, readLink, removeLink, requireLink } from "./link.ts";
import { LinkExistsError, NotABridgeError } from "./link-error.ts";
import { NetworkNamespace } from "./namespace.ts";
import { readRoutes } from "./route.ts";
import { ensureSysctl, readSysctl, SysctlError, writeSysctl, writeSysctls } from "./sysctl.ts";
import { Undo } from "./undo.ts";
import { createVeth } from "./veth.ts";

let outer: TestNamespace;
let inner: TestNamespace;
let host: NetworkNamespace;
let container: NetworkNamespace;

beforeEach(() => {
  outer = TestNamespace.create("kernel-host");
  inner = TestNamespace.create("kernel-container");
  host = NetworkNamespace.open(outer.path);
  container = NetworkNamespace.open(inner.path);
});
afterEach(() => {
  host.close();
  container.close();
  outer.remove();
  inner.remove();
});

const name = parseIfName;
const br1 = { name: name("br1"), vlanFiltering: false, promiscuous: false };

/** An undo whose steps are never taken. */
async function kept<Value>(body: (undo: Undo) => Value): Promise<Value> {
  return await Undo.run(async (undo) => body(undo));
}

async function undone(body: (undo: Undo) => void): Promise<void> {
  const failure = new Error("on purpose");
  const run = Undo.run(async (undo) => {
    body(undo);
    throw failure;
  });
  await expect(run).rejects.toBe(failure);
}

function veth(extra: Partial<Parameters<typeof createVeth>[1]> = {}): void {
  createVeth(host, { name: name("veth0"), peer: { namespace: container, name: name("eth0") }, ...extra });
}

describe("createVeth()", () => {
  test("makes both ends under their final names, with everything they shall have", async () => {
    const bridge = await kept((undo) => ensureBridge(host, br1, undefined, undo));
    veth({
      mac: parseMac("02:00:00:00:00:01"),
      mtu: 1400,
      bridge: { ifindex: bridge.ifindex, name: br1.name },
      peer: { namespace: container, name: name("eth0"), mac: parseMac("02:00:00:00:00:02") },
    });
    expect(outer.run("ip -o link show veth0")).toMatch(/ mtu 1400 .*master br1 .*02:00:00:00:00:01/);
    expect(inner.run("ip -o link show eth0")).toMatch(/mtu 1400 .*state DOWN .*02:00:00:00:00:02/);
  });

  test("sets an end up that is no port", () => {
    veth();
    expect(outer.run("ip -o link show veth0")).toMatch(/[<,]UP[,>]/);
  });

  test("says which end's name is taken, and makes nothing", () => {
    inner.run("ip link add eth0 type bridge");
    expect(() => veth()).toThrow(new LinkExistsError(name("eth0"), container));
    expect(readLink(host, name("veth0"))).toBeUndefined();
    inner.run("ip link del eth0");
    outer.run("ip link add veth0 type bridge");
    expect(() => veth()).toThrow(new LinkExistsError(name("veth0"), host));
    expect(readLink(container, name("eth0"))).toBeUndefined();
  });
});

test("startBridgePort() sets a port up as it shall be, without IPv6 of its own", async () => {
  const bridge = await kept((undo) => ensureBridge(host, br1, undefined, undo));
  veth({ bridge: { ifindex: bridge.ifindex, name: br1.name } });
  const port = startBridgePort(host, name("veth0"), { hairpin: true, isolated: true });
  expect(port).toMatchObject({
    up: true,
    master: bridge.ifindex,
    bridgePort: { hairpin: true, isolated: true },
  });
  expect(port.parent).toBe(requireLink(container, name("eth0")).ifindex);
  inner.run("ip link set eth0 up");
  expect(outer.run("ip -o link show veth0")).toContain("LOWER_UP");
  expect(outer.run("ip -6 -o addr show veth0")).toBe("");
});

describe("ensureBridge()", () => {
  test("adopts a bridge that exists, and brings it up", async () => {
    outer.run("ip link add br1 address 02:00:00:00:00:09 type bridge");
    const link = await kept((undo) => ensureBridge(host, br1, readBridge(host, br1.name), undo));
    expect(link).toMatchObject({ mac: "02:00:00:00:00:09", up: true });
    await undone((undo) => void ensureBridge(host, br1, readBridge(host, br1.name), undo));
    expect(outer.run("ip -o link show br1")).toContain("UP");
  });

  test("adopts one that another ADD has made since it was looked for", async () => {
    outer.run("ip link add br1 address 02:00:00:00:00:09 type bridge");
    const link = await kept((undo) => ensureBridge(host, br1, undefined, undo));
    expect(link.mac).toBe("02:00:00:00:00:09");
  });

  test("takes a new one back, but not one that somebody uses by then", async () => {
    await undone((undo) => void ensureBridge(host, br1, undefined, undo));
    expect(readLink(host, br1.name)).toBeUndefined();
    await undone((undo) => {
      const { ifindex } = ensureBridge(host, br1, undefined, undo);
      veth({ bridge: { ifindex, name: br1.name } });
    });
    expect(outer.run("ip -o link show master br1")).toContain("veth0");
  });

  test("refuses any other link of that name", () => {
    veth();
    expect(() => readBridge(host, name("veth0"))).toThrow(new NotABridgeError(name("veth0"), "veth"));
    expect(() => readBridge(host, name("lo"))).toThrow('"lo" already exists but is not a bridge');
  });
});

describe("removeLink()", () => {
  test("settles when both ends are gone for everybody", async () => {
    veth();
    expect(await removeLink(host, name("veth0"))).toBe(true);
    expect(outer.run("ip -o link")).not.toContain("veth0");
    expect(inner.run("ip -o link")).not.toContain("eth0");
    expect(await removeLink(host, name("veth0"))).toBe(false);
    veth();
  });

  test("many at once do not disturb each other", async () => {
    const names = Array.from({ length: 20 }, (_, index) => name(`veth${index}`));
    for (const [index, each] of names.entries()) {
      createVeth(host, { name: each, peer: { namespace: container, name: name(`eth${index}`) } });
    }
    const removed = await Promise.all(names.map((each) => removeLink(host, each)));
    expect(removed).toEqual(names.map(() => true));
    expect(listLinks(host).map((link) => link.name)).toEqual(["lo"]);
  });
});

test("removeLink() of one that can't be removed does not keep the others", async () => {
  const names = [0, 1, 2].map((index) => name(`veth${index}`));
  for (const [index, each] of names.entries()) {
    createVeth(host, { name: each, peer: { namespace: container, name: name(`eth${index}`) } });
  }
  const removed = await Promise.allSettled([...names, name("lo")].map((each) => removeLink(host, each)));
  expect(removed.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "fulfilled", "rejected"]);
  expect(listLinks(host).map((link) => link.name)).toEqual(["lo"]);
});

test("readEachLink() says of each link whether it is there", () => {
  const [lo, none] = readEachLink(host, [name("lo"), name("none")]);
  expect(lo).toMatchObject({ name: "lo", up: true });
  expect(none).toBeUndefined();
  expect(() => requireLink(host, name("none"))).toThrow(/"none".*ENODEV/);
});

describe("addresses", () => {
  test("are added once, read and removed", () => {
    veth();
    const link = requireLink(host, name("veth0"));
    const address = parseCidr("10.1.0.1/24");
    expect(addAddress(host, link, address)).toBe(true);
    expect(addAddress(host, link, address)).toBe(false);
    expect(outer.run("ip -o addr show dev veth0")).toContain("inet 10.1.0.1/24 brd 10.1.0.255 scope global");
    expect(readAddresses(host, link.ifindex)).toMatchObject([{ address }]);
    expect(removeAddress(host, link.ifindex, address)).toBe(true);
    expect(removeAddress(host, link.ifindex, address)).toBe(false);
  });

  test("of IPv6 are usable at once, also where IPv6 was off", () => {
    veth();
    outer.run("echo 1 > /proc/sys/net/ipv6/conf/veth0/disable_ipv6");
    expect(addAddress(host, requireLink(host, name("veth0")), parseCidr("fd00::1/64"))).toBe(true);
    expect(outer.run("ip -o -6 addr show dev veth0")).toMatch(
      /fd00::1\/64 scope global nodad(?!.*tentative)/,
    );
  });
});

test("configureInterface() sets addresses and routes, names what is impossible, and passes over repetitions", () => {
  veth();
  const route = { dst: parseCidr("10.9.0.0/16"), gw: parseCidr("10.1.0.1/32").address };
  const spec = {
    addresses: [parseCidr("10.1.0.2/24")],
    routes: [route, route],
    duplicateAddressDetection: false,
  };
  const eth0 = { ifindex: requireLink(container, name("eth0")).ifindex, name: name("eth0") };
  const link = configureInterface(container, eth0, spec);
  announce(container, link);
  expect(link.up).toBe(true);
  expect(inner.run("ip route show 10.9.0.0/16")).toContain("via 10.1.0.1 dev eth0");
  expect(
    readRoutes(container, link.ifindex).filter(({ family, table }) => family === 4 && table === 254),
  ).toHaveLength(2);
  const impossible = { ...route, gw: parseCidr("192.0.2.1/32").address };
  expect(() => configureInterface(container, eth0, { ...spec, addresses: [], routes: [impossible] })).toThrow(
    /10\.9\.0\.0\/16 via 192\.0\.2\.1.*ENETUNREACH/,
  );
});

describe("sysctls", () => {
  test("are those of the namespace, and written only where they differ", () => {
    expect(ensureSysctl(host, "net/ipv4/ip_forward", 1)).toBe("0");
    expect(ensureSysctl(host, "net/ipv4/ip_forward", 1)).toBeUndefined();
    expect(outer.run("cat /proc/sys/net/ipv4/ip_forward").trim()).toBe("1");
    expect(readSysctl(container, "net/ipv4/ip_forward")).toBe("0");
  });

  test("that this kernel has not are told from those that can't be set", () => {
    expect(readSysctl(host, "net/ipv4/conf/none/forwarding")).toBeUndefined();
    expect(() => writeSysctl(host, "net/ipv4/conf/none/forwarding", 1)).toThrow(SysctlError);
    expect(() =>
      writeSysctls(host, [{ key: "net/ipv4/conf/none/forwarding", value: 1, optional: true }]),
    ).not.toThrow();
    expect(() => writeSysctl(host, "net/ipv4/ip_forward", "many")).toThrow(
      /Cannot set sysctl net\/ipv4\/ip_forward to many: .*/,
    );
  });
});

test("ensureForwarding() takes back what it switched on, accept_ra included", async () => {
  veth();
  await undone((undo) => {
    ensureForwarding(host, [4, 6], undo);
    expect(readSysctl(host, "net/ipv6/conf/veth0/accept_ra")).toBe("2");
    expect(readSysctl(host, "net/ipv6/conf/all/forwarding")).toBe("1");
  });
  expect(readSysctl(host, "net/ipv6/conf/veth0/accept_ra")).toBe("1");
  expect(readSysctl(host, "net/ipv6/conf/all/forwarding")).toBe("0");
  expect(readSysctl(host, "net/ipv4/ip_forward")).toBe("0");
});

test("a closed namespace says so, and keeps nothing alive", () => {
  container.close();
  container.close();
  expect(() => container.fd).toThrow(/after it was closed/);
});
