import { mkdirSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Verb } from "#cni/plugin.ts";
import { HostKernel } from "#kernel/host-kernel.ts";
import { hostLocal } from "#plugins/host-local/main.ts";
import { type Answer, TestHost, type VerbArguments } from "#testing/plugin-host.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { hostDevice } from "./main.ts";

let rig: TestHost;
let container: TestNamespace;
let outside: TestNamespace;

beforeEach(() => {
  rig = new TestHost("host-device", { plugins: { "host-local": hostLocal } });
  container = rig.container();
  outside = rig.container("outside");
  rig.namespace.run(`
    ip link add nic0 mtu 1400 address 02:00:00:00:00:01 type veth peer name far0 netns ${outside.name}
    ip link set nic0 txqueuelen 77 alias uplink up`);
  outside.run("ip link set far0 up; ip addr add 10.1.0.1/24 dev far0");
});
afterEach(() => rig.close());

const ipam = { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24", rangeStart: "10.1.0.5" }]] };
const config = (extra: JsonObject = {}): JsonObject => ({
  cniVersion: "1.1.0",
  name: "net1",
  type: "host-device",
  device: "nic0",
  ...extra,
});

async function call(verb: Verb, json: JsonObject = config(), more: VerbArguments = {}): Promise<Answer> {
  const args = { containerId: "c1", ifName: "eth0", netns: container.path, ...more };
  return await rig.call(hostDevice, verb, json, args);
}

async function added(json: JsonObject = config(), more: VerbArguments = {}): Promise<Answer["json"]> {
  const answer = await call("ADD", json, more);
  expect(answer.json, answer.stderr).not.toHaveProperty("code");
  return answer.json;
}

const done = { exitCode: 0, json: {} };

interface Seen {
  readonly ifname: string;
  readonly address: string;
  readonly mtu: number;
  readonly txqlen: number;
  readonly ifalias?: string;
  readonly flags: readonly string[];
  readonly master?: string;
}

const links = (namespace: TestNamespace) =>
  namespace.json<Seen>("ip -j link").filter(({ ifname }) => ifname !== "lo");
const names = (namespace: TestNamespace) => links(namespace).map(({ ifname }) => ifname);

function nic0(): Seen & { readonly up: boolean } {
  const [link] = rig.namespace.json<Seen>("ip -j link show nic0");
  if (!link) throw new Error("nic0 is not there");
  return { ...link, up: link.flags.includes("UP") };
}

const before = { address: "02:00:00:00:00:01", mtu: 1400, txqlen: 77, ifalias: "uplink", up: true };

function records(): readonly string[] {
  return rig.host.journal.list().map(({ phase }) => phase);
}

describe("ADD", () => {
  test("moves the device in, with an address that works, and says what it is", async () => {
    const result = await added(config({ ipam, dns: { nameservers: ["10.1.0.1"] } }));
    expect(result).toMatchObject({
      interfaces: [{ name: "eth0", mac: "02:00:00:00:00:01", mtu: 1400, sandbox: container.path }],
      ips: [{ interface: 0, address: "10.1.0.5/24", gateway: "10.1.0.1" }],
      dns: { nameservers: ["10.1.0.1"] },
    });
    expect(names(rig.namespace)).toEqual([]);
    expect(names(container)).toEqual(["eth0"]);
    expect(container.run("ping -c1 -W10 10.1.0.1")).toContain(" 0% packet loss");
    expect(await call("CHECK", { ...config({ ipam }), prevResult: result })).toMatchObject(done);
  });

  test("finds it by MAC address, by an alternative name, and in /sys", async () => {
    const devices = join(rig.directory, "sys");
    const kernel = HostKernel.open({ namespacePath: rig.namespace.path, devicesPath: devices });
    rig.replace({ kernel });
    const card = join(devices, "devices/pci0000:00/0000:00:03.0");
    mkdirSync(join(card, "net/nic0"), { recursive: true });
    for (const path of ["bus/pci/devices/0000:00:03.0", "bus/auxiliary/devices/mlx5_core.sf.4"]) {
      mkdirSync(dirname(join(devices, path)), { recursive: true });
      symlinkSync(card, join(devices, path));
    }
    rig.namespace.run("ip link property add dev nic0 altname enp0s3-with-a-long-name");
    const selectors: JsonObject[] = [
      { device: "enp0s3-with-a-long-name" },
      { hwaddr: "02:00:00:00:00:01" },
      { kernelpath: "/sys/devices/pci0000:00/0000:00:03.0" },
      { pciBusID: "0000:00:03.0" },
      { runtimeConfig: { deviceID: "mlx5_core.sf.4" } },
      { runtimeConfig: { deviceID: "0000:00:03.0" } },
    ];
    for (const selector of selectors) {
      const json = { cniVersion: "1.1.0", name: "net1", type: "host-device", ...selector };
      await added(json);
      expect(names(container)).toEqual(["eth0"]);
      expect(await call("DEL", json)).toMatchObject(done);
      expect(nic0()).toMatchObject(before);
    }
    kernel.close();
  });

  test.each(["vfio-pci", "uio_pci_generic", "igb_uio"])(
    "leaves hardware that a program drives by %s where it is",
    async (driver) => {
      const devices = join(rig.directory, "sys");
      const kernel = HostKernel.open({ namespacePath: rig.namespace.path, devicesPath: devices });
      rig.replace({ kernel });
      mkdirSync(join(devices, "bus/pci/devices/0000:00:03.0"), { recursive: true });
      symlinkSync(`../../../drivers/${driver}`, join(devices, "bus/pci/devices/0000:00:03.0/driver"));
      const json = { cniVersion: "1.1.0", name: "net1", type: "host-device", ipam, pciBusID: "0000:00:03.0" };
      const result = await added(json);
      expect(result).toMatchObject({
        interfaces: [{ name: "eth0", sandbox: container.path, pciID: "0000:00:03.0" }],
        ips: [{ interface: 0, address: "10.1.0.5/24" }],
      });
      expect(names(container)).toEqual([]);
      expect(await call("CHECK", { ...json, prevResult: result })).toMatchObject(done);
      expect(await call("DEL", json)).toMatchObject(done);
      expect(records()).toEqual([]);
      kernel.close();
    },
  );

  test("that fails gives everything back", async () => {
    const broken = config({ ipam: { ...ipam, routes: [{ dst: "10.9.0.0/16", gw: "10.8.0.1" }] } });
    expect(await call("ADD", broken)).toMatchObject({ json: { code: 7 } });
    const exhausted = config({ ipam: { type: "host-local", subnet: "10.1.0.0/24", rangeStart: "x" } });
    expect(await call("ADD", exhausted)).toMatchObject({ json: { code: 7 } });
    expect(nic0()).toMatchObject(before);
    container.run("ip link add eth0 type bridge");
    expect(await call("ADD", config({ ipam }))).toMatchObject({ json: { code: 4 } });
    expect(nic0()).toMatchObject(before);
    expect(records()).toEqual([]);
  });

  test("fails after the device was moved, and gives it back", async () => {
    outside.run("ip -6 addr add fd00::5/64 dev far0 nodad");
    const six = { type: "host-local", ranges: [[{ subnet: "fd00::/64", rangeStart: "fd00::5" }]] };
    expect(await call("ADD", config({ ipam: six }))).toMatchObject({ json: { code: 7 } });
    expect(nic0()).toMatchObject(before);
    expect(records()).toEqual([]);
  });

  test("says who has the device", async () => {
    await added();
    const other = rig.container();
    const answer = await call("ADD", config(), { containerId: "c2", netns: other.path });
    expect(answer.json).toMatchObject({ code: 11, details: expect.stringContaining("eth0") });
    expect(answer.json["msg"]).toContain('container "c1" has it');
    expect(
      await call("ADD", config({ device: "nic9" }), { containerId: "c2", netns: other.path }),
    ).toMatchObject({ json: { code: 7 } });
  });

  test("again answers as the first one did", async () => {
    const first = await added(config({ ipam }));
    expect(await added(config({ ipam }))).toEqual(first);
    expect(names(container)).toEqual(["eth0"]);
  });

  test("refuses what says nothing, or nonsense", async () => {
    for (const wrong of [
      { device: "" },
      { device: "a/b" },
      { device: "", hwaddr: "x" },
      { device: "", kernelpath: "/proc/x" },
      { device: "", kernelpath: "/sys/devices/../x" },
      { device: "", pciBusID: "../../x" },
      { runtimeConfig: { deviceID: ".." } },
      { runtimeConfig: { deviceID: "0000:ff:1f.7" } },
    ])
      expect((await call("ADD", config(wrong))).json, JSON.stringify(wrong)).toMatchObject({ code: 7 });
    expect(nic0()).toMatchObject(before);
  });
});

describe("DEL", () => {
  test("gives the device back as it was, whatever was done to it, and is happy to be repeated", async () => {
    rig.namespace.run("ip link add br0 type bridge; ip link set nic0 master br0");
    await added(config({ ipam }));
    container.run("ip link set eth0 address 02:00:00:00:00:99; ip link set eth0 mtu 1300 txqueuelen 5");
    for (let time = 0; time < 3; time++) expect(await call("DEL", config({ ipam }))).toMatchObject(done);
    expect(nic0()).toMatchObject({ ...before, master: "br0" });
    expect(records()).toEqual([]);
  });

  test("leaves a device down that was down", async () => {
    rig.namespace.run("ip link set nic0 down");
    await added();
    await call("DEL");
    expect(nic0().up).toBe(false);
  });

  test("without a namespace still finds the container's, and frees the address", async () => {
    await added(config({ ipam }));
    expect(await call("DEL", config({ ipam }), { netns: "" })).toMatchObject(done);
    expect(nic0()).toMatchObject(before);
    expect((await added(config({ ipam }), { containerId: "c2" }))["ips"]).toMatchObject([
      { address: "10.1.0.6/24" },
    ]);
  });

  test("gives a device its name that came back by itself", async () => {
    await added(config({ ipam }));
    // What the kernel does with hardware at the end of a namespace; a veth would end as well.
    container.run(`ip link set eth0 netns ${rig.namespace.name}`);
    container.remove();
    expect(names(rig.namespace)).toEqual(["eth0"]);
    expect(await call("DEL", config({ ipam }))).toMatchObject(done);
    expect(nic0()).toMatchObject(before);
  });

  test("finds a device that had to be called otherwise, as the host has an eth0", async () => {
    await added();
    container.run(
      `ip link set eth0 down; ip link set eth0 name dev7; ip link set dev7 netns ${rig.namespace.name}`,
    );
    rig.namespace.run("ip link add eth0 type bridge");
    container.remove();
    expect(await call("DEL")).toMatchObject(done);
    expect(nic0()).toMatchObject(before);
    expect(names(rig.namespace).sort()).toEqual(["eth0", "nic0"]);
  });

  test("says so where the name is taken, brings the device home even so, and is done when the name is free", async () => {
    await added();
    rig.namespace.run("ip link add nic0 address 02:00:00:00:00:77 type bridge");
    const answer = await call("DEL");
    expect(answer.json).toMatchObject({ code: 11 });
    expect(names(container)).toEqual([]);
    expect(names(rig.namespace)).toHaveLength(2);
    rig.namespace.run("ip link del nic0");
    expect(await call("DEL")).toMatchObject(done);
    expect(nic0()).toMatchObject(before);
    expect(records()).toEqual([]);
  });

  test("of a container whose namespace ended does not take the device from the next one", async () => {
    await added();
    container.run(`ip link set eth0 netns ${rig.namespace.name}`);
    const other = rig.container();
    container.remove();
    // No DEL so far: the next ADD finds the device under its wrong name.
    await added(config(), { containerId: "c2", netns: other.path });
    expect(await call("DEL")).toMatchObject(done);
    expect(names(other)).toEqual(["eth0"]);
    expect(await call("DEL", config(), { containerId: "c2", netns: other.path })).toMatchObject(done);
    expect(nic0()).toMatchObject(before);
  });

  test.each([
    { hwaddr: "02:00:00:00:00:01" },
    // Its name at this moment, which it has from the container that is gone.
    { device: "eth0" },
  ])(
    "a device that came back under another name has its own again before %j is looked for",
    async (selector) => {
      await added();
      container.run(`ip link set eth0 netns ${rig.namespace.name}`);
      const other = rig.container();
      container.remove();
      const { device: _, ...rest } = config();
      const json = { ...rest, ...selector };
      const answer = await call("ADD", json, { containerId: "c2", netns: other.path });
      if ("device" in selector) {
        expect(answer.json).toMatchObject({
          code: 7,
          msg: expect.stringContaining('Cannot find device "eth0"'),
        });
      } else {
        expect(answer.json).not.toHaveProperty("code");
        expect(await call("DEL", json, { containerId: "c2", netns: other.path })).toMatchObject(done);
      }
      expect(nic0()).toMatchObject(before);
      expect(await call("DEL")).toMatchObject(done);
      expect(nic0()).toMatchObject(before);
      expect(records()).toEqual([]);
    },
  );

  test("of a virtual device that ended with the namespace is done", async () => {
    await added(config({ ipam }));
    container.remove();
    // The far end tells that the namespace has really ended.
    await expect.poll(() => names(outside), { timeout: 20_000 }).toEqual([]);
    expect(await call("DEL", config({ ipam }))).toMatchObject(done);
    expect(records()).toEqual([]);
  });

  test("knows what the reference plugin has moved by the alias", async () => {
    rig.namespace.run(`ip link set nic0 alias nic0; ip link set nic0 netns ${container.name} name eth0`);
    expect(await call("DEL")).toMatchObject(done);
    expect(nic0()).toMatchObject({ address: before.address, mtu: 1400 });
    expect(nic0().ifalias ?? "").toBe("");
  });

  test("leaves alone what nobody knows", async () => {
    container.run("ip link add eth0 type bridge");
    expect(await call("DEL")).toMatchObject(done);
    expect(names(container)).toEqual(["eth0"]);
    expect(names(rig.namespace)).toEqual(["nic0"]);
  });
});

test("CHECK sees another device, a lost address, and an interface that is down", async () => {
  const result = await added(config({ ipam }));
  const check = async () => (await call("CHECK", { ...config({ ipam }), prevResult: result })).json["msg"];
  container.run("ip addr flush dev eth0");
  expect(await check()).toContain("address 10.1.0.5/24 is gone");
  container.run("ip link set eth0 down");
  expect(await check()).toContain("is down");
  container.run("ip link set eth0 name other0; ip link add eth0 type bridge; ip link set eth0 up");
  expect(await check()).toContain('is not the device "nic0"');
});

test("GC brings the devices of gone containers home, and keeps those of the others", async () => {
  await added(config({ ipam }));
  const keep = { "cni.dev/valid-attachments": [{ containerID: "c1", ifname: "eth0" }] };
  expect(await call("GC", { ...config({ ipam }), ...keep })).toMatchObject(done);
  expect(names(container)).toEqual(["eth0"]);
  expect(await call("GC", { ...config({ ipam }), "cni.dev/valid-attachments": [] })).toMatchObject(done);
  expect(nic0()).toMatchObject(before);
  expect(await call("STATUS", config({ ipam }))).toMatchObject(done);
});
