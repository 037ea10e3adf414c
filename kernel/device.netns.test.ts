import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseIfName } from "#net/ifname.ts";
import { parseMac } from "#net/mac.ts";
import { testWith } from "#testing/requires.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { findDeviceByMac, moveDevice, readDevice } from "./device.ts";
import { DeviceFiles } from "./device-files.ts";
import { LinkExistsError } from "./link-error.ts";
import { NetworkNamespace } from "./namespace.ts";
import { createTap } from "./tap.ts";

let outer: TestNamespace;
let inner: TestNamespace;
let host: NetworkNamespace;
let container: NetworkNamespace;

beforeEach(() => {
  outer = TestNamespace.create("device-host");
  inner = TestNamespace.create("device-container");
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
const namesIn = (namespace: TestNamespace) =>
  namespace
    .json<{ ifname: string }>("ip -j link")
    .map(({ ifname }) => ifname)
    .filter((each) => each !== "lo");

function device() {
  const found = readDevice(host, name("nic0"));
  if (!found) throw new Error("nic0 is not there");
  return found;
}

describe("moveDevice()", () => {
  beforeEach(() => {
    outer.run("ip link add nic0 mtu 1400 address 02:00:00:00:00:01 type veth peer name far0");
  });

  test("gives it the name and the alias, and keeps MAC address and MTU", () => {
    const moved = moveDevice(host, device(), container, { name: name("eth0"), alias: "nic0" });
    expect(moved).toMatchObject({
      name: "eth0",
      alias: "nic0",
      mac: "02:00:00:00:00:01",
      mtu: 1400,
      up: false,
    });
    expect(namesIn(inner)).toEqual(["eth0"]);
    expect(namesIn(outer)).toEqual(["far0"]);
  });

  test("refuses a name that is taken, and the device stays", () => {
    inner.run("ip link add eth0 type bridge");
    expect(() => moveDevice(host, device(), container, { name: name("eth0") })).toThrow(LinkExistsError);
    expect(namesIn(outer).sort()).toEqual(["far0", "nic0"]);
  });

  test("leaves alone what the kernel lets nobody move", () => {
    const lo = readDevice(host, name("lo"));
    if (!lo) throw new Error("lo is not there");
    expect(() => moveDevice(host, lo, container, { name: name("eth0") })).toThrow(/change link 1/);
    expect(namesIn(inner)).toEqual([]);
  });
});

test("findDeviceByMac() finds one link with the address", () => {
  outer.run(`
    ip link add br0 address 02:00:00:00:00:01 type bridge
    ip link add nic0 address 02:00:00:00:00:01 type veth peer name far0`);
  expect(findDeviceByMac(host, parseMac("02:00:00:00:00:01"))?.name).toBe("br0");
  outer.run("ip link del br0");
  expect(findDeviceByMac(host, parseMac("02:00:00:00:00:01"))?.name).toBe("nic0");
  expect(findDeviceByMac(host, parseMac("02:00:00:00:00:09"))).toBeUndefined();
});

describe("createTap()", () => {
  testWith(["tun"], "makes one that stays, for its owner, with several queues", () => {
    const mac = parseMac("02:00:00:00:00:07");
    const spec = { name: name("tap0"), multiQueue: true, owner: 54321, group: 4294967290, mac, mtu: 1300 };
    expect(createTap(container, spec)).toMatchObject({ name: "tap0", kind: "tun", mac, mtu: 1300 });
    const [link] = inner.json<{ linkinfo: object }>("ip -d -j link show tap0");
    expect(link?.linkinfo).toMatchObject({
      info_data: { type: "tap", multi_queue: true, persist: true, user: 54321, group: 4294967290, pi: false },
    });
  });

  testWith(["tun"], "does not take one over that is there", () => {
    createTap(container, { name: name("tap0"), multiQueue: false });
    inner.run("ip link add other0 type bridge");
    for (const each of ["tap0", "other0"])
      expect(() => createTap(container, { name: name(each), multiQueue: false })).toThrow(LinkExistsError);
  });
});

describe("DeviceFiles", () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "netctl-test-"));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));
  const make = (path: string) => mkdirSync(join(root, path), { recursive: true });

  test("finds a PCI device, its driver, and its interfaces, below virtio too", async () => {
    make("devices/pci0000:00/0000:00:03.0/virtio1/net/eth7");
    make("bus/pci/devices");
    make("bus/pci/drivers/virtio-pci");
    symlinkSync("../../../devices/pci0000:00/0000:00:03.0", join(root, "bus/pci/devices/0000:00:03.0"));
    symlinkSync("../../../bus/pci/drivers/virtio-pci", join(root, "devices/pci0000:00/0000:00:03.0/driver"));
    const files = new DeviceFiles(root);
    const folder = (await files.findPci("0000:00:03.0")) ?? "";
    expect(await files.interfacesOf(folder)).toEqual(["eth7"]);
    expect(await files.driverOf(folder)).toBe("virtio-pci");
    expect(await files.findPci("0000:00:04.0")).toBeUndefined();
    expect(await files.find("/sys/devices/pci0000:00/0000:00:03.0/virtio1")).toBeDefined();
  });

  test("finds a device of the auxiliary bus, which may have no driver", async () => {
    make("bus/auxiliary/devices/mlx5_core.sf.4/net/enp1s0f0s4");
    const files = new DeviceFiles(root);
    const folder = (await files.findAuxiliary("mlx5_core.sf.4")) ?? "";
    expect(await files.interfacesOf(folder)).toEqual(["enp1s0f0s4"]);
    expect(await files.driverOf(folder)).toBeUndefined();
  });
});
