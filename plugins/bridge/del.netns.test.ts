import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { parseCidr } from "#net/cidr.ts";
import { IptablesMasquerade } from "#nftables/iptables/masquerade.ts";
import { type Attached, BridgeRig } from "#testing/bridge-rig.ts";
import { bridge } from "./main.ts";

let rig: BridgeRig;
let failIpam = false;
beforeEach(() => {
  failIpam = false;
  rig = new BridgeRig({
    intercept: (_, call) =>
      failIpam && call.environment["CNI_COMMAND"] === "DEL"
        ? { exitCode: 1, stdout: '{"code":5,"msg":"disk is full"}', stderr: "" }
        : undefined,
  });
});
afterEach(async () => {
  await rig.close();
});

const everything = { isDefaultGateway: true, ipMasq: true, macspoofchk: true };

/** Links, rules and files of attachments; not the bridge and the subnets, which are the network's. */
function left(): unknown {
  return {
    links: rig.links().filter((name) => name !== "lo" && name !== "br1"),
    elements: rig.elements().filter((element) => !element.startsWith("same_subnet")),
    files: rig.files(),
  };
}
const nothing = { links: [], elements: [], files: [] };

function prevResult({ result }: Attached): JsonObject {
  return { cniVersion: "1.1.0", ...result };
}

function loseJournal(): void {
  rmSync(join(rig.host.directories.state, "journal"), { recursive: true });
}

test("DEL takes away what ADD made, and nothing of its neighbour", async () => {
  const neighbour = await rig.attach(everything);
  const before = rig.snapshot();
  const one = await rig.attach(everything);
  await rig.detach(one, { netns: one.container.path });
  expect(rig.links(one.container)).toEqual(["lo"]);
  expect(rig.snapshot()).toEqual(before);
  expect(rig.reaches(neighbour.container, "10.1.0.1")).toBe(true);
});

test("it needs neither namespace nor previous result, as containerd and kubelet call it", async () => {
  const one = await rig.attach(everything);
  await rig.detach(one);
  expect(left()).toEqual(nothing);
  expect(rig.links(one.container)).toEqual(["lo"]);
});

test("it may be called again and again, and for what never was", async () => {
  const one = await rig.attach(everything);
  for (const netns of [one.container.path, "", ""]) await rig.detach(one, { netns });
  await rig.detach({ ...one, containerId: "never-was" });
  await rig.detach({ ...one, containerId: "never-was" }, { netns: one.container.path });
});

test("a namespace that is gone keeps nothing: rules and addresses go as well", async () => {
  const one = await rig.attach(everything);
  one.container.remove();
  await rig.detach(one, { netns: one.container.path });
  expect(left()).toEqual(nothing);
});

test("a configuration that has changed since, even into an impossible one, keeps nothing", async () => {
  const one = await rig.attach(everything);
  const { ipam: _, ...config } = rig.config({ bridge: "br9", ipMasq: false, mtu: "none" });
  await rig.detach({ ...one, config });
  expect(left()).toEqual(nothing);
});

test("an address is released with the configuration that it was given by", async () => {
  const one = await rig.attach(everything);
  const ipam = { type: "static", addresses: [{ address: "10.9.0.2/24" }] };
  await rig.detach({ ...one, config: rig.config({ ...everything, ipam }) });
  expect(left()).toEqual(nothing);
});

test("an interface that somebody removed already does not keep the rest", async () => {
  const one = await rig.attach(everything);
  one.container.run("ip link del eth0");
  await rig.detach(one);
  expect(left()).toEqual(nothing);
});

test("an error of the IPAM plugin is reported, does not keep the rest, and DEL can be called again", async () => {
  const one = await rig.attach(everything);
  failIpam = true;
  const args = { containerId: one.containerId, ifName: "eth0" };
  expect(await rig.call(bridge, "DEL", one.config, args)).toMatchObject({
    exitCode: 1,
    json: { code: 5, msg: "disk is full" },
  });
  expect(left()).toMatchObject({ links: [], elements: [] });
  expect(rig.host.journal.list()).toHaveLength(1);
  failIpam = false;
  await rig.detach(one);
  expect(left()).toEqual(nothing);
});

test("two interfaces of one container in one network are two attachments", async () => {
  const config = rig.config(everything);
  const container = rig.container();
  for (const ifName of ["eth0", "eth1"]) {
    expect(await rig.add(config, { ifName, netns: container.path })).toMatchObject({ exitCode: 0 });
  }
  await rig.detach({ containerId: "c1", config }, { ifName: "eth0" });
  expect(rig.links(container)).toEqual(["eth1", "lo"]);
  expect(rig.elements().filter((element) => element.startsWith("masquerade4"))).toHaveLength(1);
  await rig.detach({ containerId: "c1", config }, { ifName: "eth1" });
  expect(left()).toEqual(nothing);
});

describe("when the journal is lost", () => {
  test("the derived name finds the link, and the previous result the rules", async () => {
    const one = await rig.attach(everything);
    loseJournal();
    await rig.detach({ ...one, config: { ...one.config, prevResult: prevResult(one) } });
    expect(left()).toEqual(nothing);
  });

  test("a torn record says that there was something, which is looked for even without previous result", async () => {
    const neighbour = await rig.attach(everything);
    const before = left();
    const one = await rig.attach(everything);
    const [record] = rig.files().filter((path) => path.includes(`/journal/net1/${one.containerId}:`));
    writeFileSync(join(rig.directory, record ?? ""), "");
    await rig.detach(one);
    expect(left()).toEqual(before);
    await rig.detach(neighbour);
    expect(left()).toEqual(nothing);
  });

  test("elements that no previous result names go with the next GC", async () => {
    const one = await rig.attach(everything);
    loseJournal();
    await rig.detach(one);
    expect(left()).not.toEqual(nothing);
    const config = { ...one.config, "cni.dev/valid-attachments": [] };
    expect(await rig.call(bridge, "GC", config)).toMatchObject({ exitCode: 0 });
    expect(left()).toEqual(nothing);
  });
});

describe("an attachment that the reference plugin made", () => {
  /** As it makes one: a veth whose name is drawn, in a bridge, and no record of ours. */
  function foreign() {
    const container = rig.container();
    rig.namespace.run(
      `ip link add br1 type bridge; ip link set br1 up
       ip link add veth12345678 master br1 up type veth peer eth0 netns ${container.name}`,
    );
    container.run("ip addr add 10.1.0.2/24 dev eth0; ip link set eth0 up");
    const interfaces = [
      { name: "br1", mac: rig.link("br1").address },
      { name: "veth12345678", mac: rig.link("veth12345678").address },
      { name: "eth0", mac: rig.link("eth0", container).address, sandbox: container.path },
    ];
    const result = { cniVersion: "1.0.0", interfaces, ips: [{ interface: 2, address: "10.1.0.2/24" }] };
    return { container, result };
  }

  test("goes when the previous result names it", async () => {
    const { container, result } = foreign();
    await rig.detach(
      { containerId: "c1", config: rig.config({ prevResult: result }) },
      { netns: container.path },
    );
    expect(rig.links(container)).toEqual(["lo"]);
    expect(rig.links()).not.toContain("veth12345678");
  });

  test("takes the reference's iptables rules along, and nobody else's", async () => {
    const { container, result } = foreign();
    const iptables = new IptablesMasquerade({ namespacePath: rig.namespace.path });
    const addresses = [parseCidr("10.1.0.2/24")];
    await iptables.add({ network: "net1", containerId: "c2", addresses: [parseCidr("10.1.0.3/24")] });
    const before = rig.namespace.run("iptables-save -t nat");
    await iptables.add({ network: "net1", containerId: "c1", addresses });
    const config = rig.config({ ipMasq: true, prevResult: result });
    await rig.detach({ containerId: "c1", config }, { netns: container.path });
    const rules = (text: string) => text.split("\n").filter((line) => line.startsWith("-A"));
    expect(rules(rig.namespace.run("iptables-save -t nat"))).toEqual(rules(before));
  });

  test("goes without one too, as it leads to the bridge", async () => {
    const { container } = foreign();
    await rig.detach({ containerId: "c1", config: rig.config() }, { netns: container.path });
    expect(rig.links(container)).toEqual(["lo"]);
  });

  test("passes CHECK, though nothing of it is as we would name it", async () => {
    const { container, result } = foreign();
    const config = rig.config({
      prevResult: result,
      ipam: { type: "static", addresses: [{ address: "10.1.0.2/24" }] },
    });
    const args = { containerId: "c1", ifName: "eth0", netns: container.path };
    expect(await rig.call(bridge, "CHECK", config, args)).toMatchObject({ exitCode: 0 });
  });
});

describe("an interface that is not this attachment's stays", () => {
  test("one that an ADD was refused for", async () => {
    const container = rig.container();
    container.run("ip link add eth0 type veth peer other");
    await rig.add(rig.config(), { netns: container.path });
    await rig.detach({ containerId: "c1", config: rig.config() }, { netns: container.path });
    expect(rig.links(container)).toEqual(["eth0", "lo", "other"]);
  });

  test("one of another network on the same bridge", async () => {
    const one = await rig.attach();
    const other = rig.config({ name: "net2" });
    expect(await rig.add(other, { netns: one.container.path })).toMatchObject({ json: { code: 4 } });
    await rig.detach({ containerId: "c1", config: other }, { netns: one.container.path });
    expect(rig.links(one.container)).toEqual(["eth0", "lo"]);
  });
});
