import { spawn } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ErrorCode } from "#cni/error.ts";
import { PortRig } from "#testing/port-rig.ts";
import { ask, askOnce, startServer } from "#testing/traffic.ts";

let rig: PortRig;

beforeEach(() => {
  rig = new PortRig();
});

afterEach(async () => {
  await rig.close();
});

const web = { hostPort: 8080, containerPort: 80, protocol: "tcp" };
const dns = { hostPort: 53, containerPort: 53, protocol: "udp" };
const records = () => rig.host.journal.list().filter(({ plugin }) => plugin === "portmap");

describe("ADD", () => {
  it("publishes, and hands the result on as it came, whatever its version", async () => {
    const attached = await rig.attach({ mappings: [web] });
    expect(rig.elements()).toEqual([
      "hairpin4 10.1.0.2",
      "hairpin6 fd00:1::2",
      "ports4 tcp . 8080 : 10.1.0.2 . 80",
      "ports6 tcp . 8080 : fd00:1::2 . 80",
    ]);
    const old = await rig.portmap("ADD", attached, {
      mappings: [web],
      fields: {
        cniVersion: "0.3.1",
        prevResult: {
          interfaces: [{ name: "eth0", sandbox: attached.container.path }],
          ips: [{ version: "4", address: "10.1.0.2/24", interface: 0 }],
        },
      },
    });
    expect(old.json).toMatchObject({
      cniVersion: "0.3.1",
      ips: [{ version: "4", address: "10.1.0.2/24", interface: 0 }],
    });
    expect(rig.elements()).toEqual(["hairpin4 10.1.0.2", "ports4 tcp . 8080 : 10.1.0.2 . 80"]);
  });

  it("wants a result to go on from", async () => {
    const attached = await rig.attachOnly();
    const { json } = await rig.portmap("ADD", attached, { mappings: [web], fields: { prevResult: null } });
    expect(json).toMatchObject({
      code: ErrorCode.InvalidNetworkConfig,
      msg: "must be called as chained plugin",
    });
  });

  it("leaves no trace where nothing is to be published", async () => {
    const attached = await rig.attachOnly();
    for (const mappings of [undefined, []]) {
      const { json } = await rig.portmap("ADD", attached, mappings ? { mappings } : {});
      expect(json).toEqual(attached.result);
    }
    expect(records()).toEqual([]);
    expect(rig.namespace.run("cat /proc/sys/net/ipv4/conf/br-net1/route_localnet")).toBe("0\n");
  });

  it("works on the reference plugin's result, which knows other names and one family", async () => {
    const container = rig.container();
    rig.namespace.run(
      `ip link add cni0 type bridge; ip addr add 10.9.0.1/24 dev cni0; ip link set cni0 up
       ip link add veth0 type veth peer name eth0 netns ${container.name}; ip link set veth0 master cni0 up`,
    );
    container.run("ip link set eth0 up; ip addr add 10.9.0.2/24 dev eth0; ip route add default via 10.9.0.1");
    rig.namespace.run("echo 1 > /proc/sys/net/ipv4/ip_forward");
    const result = {
      cniVersion: "0.4.0",
      interfaces: [
        { name: "cni0", mac: "8a:5e:f6:00:00:01" },
        { name: "veth0", mac: "8a:5e:f6:00:00:02" },
        { name: "eth0", mac: "8a:5e:f6:00:00:03", sandbox: container.path },
      ],
      ips: [{ version: "4", interface: 2, address: "10.9.0.2/24", gateway: "10.9.0.1" }],
      routes: [{ dst: "0.0.0.0/0" }],
      dns: {},
    };
    const attached = { container, containerId: "c1", result };
    const { json } = await rig.portmap("ADD", attached, { mappings: [web], fields: { cniVersion: "0.4.0" } });
    expect(json).toEqual(result);
    await rig.serve(container, "target", [80]);
    for (const [from, seen] of [
      [rig.namespace, "10.9.0.1"],
      [container, "10.9.0.1"],
    ] as const) {
      const answer = await askOnce(from, { protocol: "tcp", to: "192.0.2.1", port: 8080 });
      expect(answer).toBe(`target sees ${from === rig.namespace ? "192.0.2.1" : seen}`);
    }
    await rig.forget("c1");
    expect(rig.elements()).toEqual([]);
  });

  it("publishes ranges, one element for each that keeps its numbers", async () => {
    const range = (first: number, count: number, to: number, protocol: string) =>
      Array.from({ length: count }, (_, n) => ({ hostPort: first + n, containerPort: to + n, protocol }));
    const { container } = await rig.attach({
      mappings: [
        ...range(8000, 101, 8000, "tcp"),
        ...range(9000, 3, 7000, "tcp"),
        ...range(8000, 50, 8000, "sctp"),
      ],
    });
    expect(rig.elements().filter((element) => element.includes("4 "))).toEqual([
      "hairpin4 10.1.0.2",
      "port_ranges4 sctp . 8000-8049 : 10.1.0.2",
      "port_ranges4 tcp . 8000-8100 : 10.1.0.2",
      "ports4 tcp . 9000 : 10.1.0.2 . 7000",
      "ports4 tcp . 9001 : 10.1.0.2 . 7001",
      "ports4 tcp . 9002 : 10.1.0.2 . 7002",
    ]);
    await rig.serve(container, "target", [8000, 8100, 7002]);
    const questions = [8000, 8100, 9002, 7999].map(
      (port) => ({ protocol: "tcp", to: "192.0.2.1", port }) as const,
    );
    expect(await ask(rig.lan, questions)).toEqual([
      "target sees 192.0.2.2",
      "target sees 192.0.2.2",
      "target sees 192.0.2.2",
      "ECONNREFUSED",
    ]);
  });

  it("lets everybody come from the host with masqAll, and nobody with snat false", async () => {
    const question = { protocol: "tcp", to: "192.0.2.1", port: 8080 } as const;
    const all = await rig.attach({ mappings: [web], fields: { masqAll: true } });
    await rig.serve(all.container, "all", [80]);
    expect(await askOnce(rig.lan, question)).toBe("all sees 10.1.0.1");
    await rig.forget(all.containerId);
    rig.namespace.run("echo 0 > /proc/sys/net/ipv4/conf/br-net1/route_localnet");

    const none = await rig.attach({ mappings: [web], fields: { snat: false, masqAll: true } });
    await rig.serve(none.container, "none", [80]);
    expect(await askOnce(rig.lan, question)).toBe("none sees 192.0.2.2");
    expect(rig.elements().filter((element) => element.startsWith("hairpin"))).toEqual([]);
    expect(rig.namespace.run("cat /proc/sys/net/ipv4/conf/br-net1/route_localnet")).toBe("0\n");
  });

  it("replaces what an earlier ADD of the attachment has published", async () => {
    const attached = await rig.attach({ mappings: [web, { ...web, hostPort: 8081 }] });
    await rig.portmap("ADD", attached, { mappings: [{ ...web, containerPort: 81 }] });
    expect(rig.elements().filter((element) => element.startsWith("ports4"))).toEqual([
      "ports4 tcp . 8080 : 10.1.0.2 . 81",
    ]);
    expect(records()).toHaveLength(1);
    await rig.portmap("ADD", attached);
    expect([rig.elements(), records()]).toEqual([[], []]);
  });
});

/** A process of the host, with words on its command line. */
async function listen(address: string, port: number, ...words: readonly string[]): Promise<() => void> {
  const script = `require("net").createServer().listen(${port}, "${address}", () => console.log("up"))`;
  const args = [`--net=${rig.namespace.path}`, process.execPath, "-e", script, "--", ...words];
  const child = spawn("nsenter", args, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return () => child.kill("SIGKILL");
}

describe("a taken port", () => {
  it("is refused with the name of its owner, and nothing is left of the attempt", async () => {
    const first = await rig.attach({ mappings: [web], containerId: "first" });
    const second = await rig.attachOnly({ containerId: "second" });
    const before = [rig.elements(), rig.namespace.run("nft list ruleset")];
    const wanted = [
      { hostPort: 9000, containerPort: 90 },
      { ...web, hostIP: "192.0.2.1" },
    ];
    const { exitCode, json } = await rig.portmap("ADD", second, { mappings: wanted });
    expect([exitCode, json["code"]]).toEqual([1, 100]);
    expect(json["msg"]).toBe(
      'Cannot publish 192.0.2.1:8080/tcp: port is already allocated to container "first" (eth0, network "net1")',
    );
    expect([rig.elements(), rig.namespace.run("nft list ruleset")]).toEqual(before);
    expect(records()).toHaveLength(1);
    await rig.forget(first.containerId);
    expect(await rig.portmap("ADD", second, { mappings: wanted })).toMatchObject({ exitCode: 0 });
  });

  it("is refused with the name of the process that listens on it", async () => {
    const attached = await rig.attachOnly();
    await rig.serve(rig.namespace, "host", [7000]);
    for (const protocol of ["tcp", "udp"]) {
      for (const hostIP of ["", "127.0.0.1", "192.0.2.1", "2001:db8::1"]) {
        const { json } = await rig.portmap("ADD", attached, {
          mappings: [{ hostPort: 7000, containerPort: 80, protocol, hostIP }],
        });
        expect(json["code"]).toBe(100);
        expect(json["msg"]).toMatch(
          new RegExp(
            `^Cannot publish .*:7000/${protocol}: port is already allocated to process \\d+ \\(node\\), which`,
          ),
        );
      }
    }
    expect([rig.elements(), records()]).toEqual([[], []]);
    const free = [{ hostPort: 7001, containerPort: 80, protocol: "tcp" }];
    expect(await rig.portmap("ADD", attached, { mappings: free })).toMatchObject({ exitCode: 0 });
  });

  it("is not taken by a process that listens on another address only", async () => {
    const attached = await rig.attachOnly();
    const stop = await listen("127.0.0.1", 7000);
    const publish = (hostIP: string) =>
      rig.portmap("ADD", attached, { mappings: [{ hostPort: 7000, containerPort: 80, hostIP }] });
    expect((await publish("192.0.2.1")).exitCode).toBe(0);
    expect((await publish("::")).exitCode).toBe(0);
    expect((await publish("127.0.0.1")).json["code"]).toBe(100);
    expect((await publish("")).json["code"]).toBe(100);
    stop();
  });

  it("is not taken by the runtime's own socket, whose process names the container", async () => {
    const attached = await rig.attachOnly({ containerId: "c0ffee" });
    // As podman's conmon holds the ports of a running container, whose network is reloaded.
    const stop = await listen("::", 8080, "c0ffee");
    expect(await rig.portmap("ADD", attached, { mappings: [web] })).toMatchObject({ exitCode: 0 });
    stop();
  });

  it("is taken over from a container whose namespace is gone, though its DEL has never come", async () => {
    const dead = await rig.attach({ mappings: [web, dns], containerId: "dead" });
    dead.container.remove();
    const heir = await rig.attach({ mappings: [web], containerId: "heir" });
    expect(rig.elements().filter((element) => element.startsWith("ports4"))).toEqual([
      `ports4 tcp . 8080 : ${heir.ip4} . 80`,
    ]);
    expect(records().map(({ key }) => key.containerId)).toEqual(["heir"]);
    await rig.forget("dead");
    expect(rig.elements()).toContain(`ports4 tcp . 8080 : ${heir.ip4} . 80`);
  });
});

describe("DEL", () => {
  it("needs neither the namespace nor the result nor the ports, and may come again", async () => {
    const one = await rig.attach({ mappings: [web] });
    const two = await rig.attach({ mappings: [{ ...web, hostPort: 8081, hostIP: "127.0.0.1" }, dns] });
    const both = rig.elements();
    one.container.remove();
    await rig.forget(one.containerId);
    expect(rig.elements()).toEqual(both.filter((element) => !/10\.1\.0\.2|fd00:1::2/.test(element)));
    await rig.forget(one.containerId);
    await rig.forget(two.containerId);
    await rig.forget("never-added");
    expect([rig.elements(), records()]).toEqual([[], []]);
  });

  it("works without a record from what the runtime says", async () => {
    const attached = await rig.attach({ mappings: [web] });
    rmSync(join(rig.host.directories.state, "journal"), { recursive: true });
    await rig.portmap("DEL", attached, { mappings: [web] });
    expect(rig.elements()).toEqual([]);
  });

  it("leaves what belongs to the container that has the address by now", async () => {
    const old = await rig.attach({ mappings: [web, dns], containerId: "old" });
    // Its DEL is late: another container has got address and ports meanwhile.
    const fresh = { ...old, containerId: "fresh" };
    expect(await rig.portmap("ADD", fresh, { mappings: [web, dns] })).toMatchObject({ exitCode: 0 });
    const all = rig.elements();
    await rig.forget("old");
    expect(rig.elements()).toEqual(all);
    await rig.forget("fresh");
    expect(rig.elements()).toEqual([]);
  });

  it("succeeds where the table is gone", async () => {
    const attached = await rig.attach({ mappings: [web] });
    rig.namespace.run("nft flush ruleset");
    await rig.forget(attached.containerId);
    expect(records()).toEqual([]);
  });

  it("is about one network of the container", async () => {
    const first = await rig.attach({ mappings: [web], containerId: "c1" });
    const second = await rig.attach({
      containerId: "c1",
      network: "net2",
      ifName: "eth1",
      to: first.container,
      mappings: [{ ...web, hostPort: 9090 }],
    });
    await rig.forget("c1", "net1");
    expect(rig.elements().filter((element) => element.startsWith("ports4"))).toEqual([
      `ports4 tcp . 9090 : ${second.ip4} . 80`,
    ]);
    await rig.forget("c1", "net2", "eth1");
    expect(rig.elements()).toEqual([]);
  });
});

describe("a container that publishes its ports in two networks", () => {
  it("is reached through the first, and through the second once the first is gone", async () => {
    const first = await rig.attach({ mappings: [web, dns], containerId: "c1" });
    const second = await rig.attach({
      containerId: "c1",
      network: "net2",
      ifName: "eth1",
      to: first.container,
      mappings: [web, dns],
    });
    const ports = () => rig.elements().filter((element) => element.startsWith("ports4"));
    expect(ports()).toEqual([`ports4 tcp . 8080 : ${first.ip4} . 80`, `ports4 udp . 53 : ${first.ip4} . 53`]);
    const checked = await rig.portmap("CHECK", second, {
      network: "net2",
      ifName: "eth1",
      mappings: [web, dns],
    });
    expect(checked).toMatchObject({ exitCode: 0 });
    // The other way round, nothing happens to the first.
    await rig.forget("c1", "net2", "eth1");
    expect(ports()).toHaveLength(2);
    await rig.portmap("ADD", second, { network: "net2", ifName: "eth1", mappings: [web, dns] });
    await rig.forget("c1", "net1");
    expect(ports()).toEqual([
      `ports4 tcp . 8080 : ${second.ip4} . 80`,
      `ports4 udp . 53 : ${second.ip4} . 53`,
    ]);
    await rig.serve(first.container, "target", [80]);
    first.container.run("ip route replace default via 10.2.0.1");
    expect(await askOnce(rig.lan, { protocol: "tcp", to: "192.0.2.1", port: 8080 })).toBe(
      "target sees 192.0.2.2",
    );
    await rig.forget("c1", "net2", "eth1");
    expect(rig.elements()).toEqual([]);
    // No note of who waits for whose ports either.
    expect(readdirSync(join(rig.host.directories.run, "shared"))).toEqual([]);
  });
});

describe("flows of UDP", () => {
  const asks = { protocol: "udp", to: "192.0.2.1", port: 53, fromPort: 5353 } as const;

  it("are led to a container that publishes their port while they last", async () => {
    const other = await rig.attach();
    const stop = await startServer(rig.lan, "lan", [53]);
    // One to nobody, and one through the host to the same port elsewhere.
    await askOnce(rig.lan, asks);
    expect(await askOnce(other.container, { protocol: "udp", to: "192.0.2.2", port: 53 })).toBe(
      "lan sees 192.0.2.1",
    );
    const attached = await rig.attach({ mappings: [dns] });
    await rig.serve(attached.container, "target", [53]);
    expect(await askOnce(rig.lan, asks)).toBe("target sees 192.0.2.2");
    expect(rig.namespace.run(`conntrack -L -p udp -s ${other.ip4} -d 192.0.2.2 2>/dev/null`)).toContain(
      "dport=53",
    );
    stop();
  });

  it("are led to the next container when theirs is gone, and others stay as they are", async () => {
    const first = await rig.attach({ mappings: [dns, { ...dns, hostPort: 5300 }] });
    const bystander = await rig.attach({ mappings: [{ ...dns, hostPort: 54 }] });
    await rig.serve(first.container, "first", [53]);
    await rig.serve(bystander.container, "bystander", [53]);
    expect(await askOnce(rig.lan, asks)).toBe("first sees 192.0.2.2");
    expect(await askOnce(rig.lan, { ...asks, port: 54 })).toBe("bystander sees 192.0.2.2");
    await rig.forget(first.containerId);
    const flows = rig.namespace.run("conntrack -L -p udp -s 192.0.2.2 2>/dev/null");
    expect(flows).not.toContain("dport=53 ");
    expect(flows).toContain("dport=54 ");
    const second = await rig.attach({ mappings: [dns] });
    await rig.serve(second.container, "second", [53]);
    expect(await askOnce(rig.lan, asks)).toBe("second sees 192.0.2.2");
  });
});

describe("CHECK", () => {
  it("is content after ADD and names what is missing or wrong", async () => {
    const attached = await rig.attach({ mappings: [web] });
    const check = async () => (await rig.portmap("CHECK", attached, { mappings: [web] })).json;
    expect(await check()).toEqual({});
    rig.namespace.run("nft delete element inet netctl ports4 '{ tcp . 8080 }'");
    expect(await check()).toMatchObject({
      msg: "nftables: ports4 { tcp . 8080 : 10.1.0.2 . 80 } is missing",
    });
    rig.namespace.run("nft add element inet netctl ports4 '{ tcp . 8080 : 10.1.0.9 . 80 }'");
    expect((await check())["msg"]).toContain("ports4 { tcp . 8080 : 10.1.0.2 . 80 } belongs to");
    await rig.portmap("ADD", attached, { mappings: [{ ...web, containerPort: 81 }] });
    rig.namespace.run("nft delete element inet netctl ports4 '{ tcp . 8080 }'");
    await rig.portmap("ADD", attached, { mappings: [{ ...web, containerPort: 81 }] });
    expect((await check())["msg"]).toContain("is there as ports4 { tcp . 8080 : 10.1.0.2 . 81 }");
    await rig.portmap("ADD", attached, { mappings: [web] });
    expect(await check()).toEqual({});
    rig.namespace.run("echo 0 > /proc/sys/net/ipv4/conf/br-net1/route_localnet");
    expect((await check())["msg"]).toContain('route_localnet of "br-net1" is off');
  });
});

describe("GC", () => {
  const gc = async (...valid: string[]) => {
    const config = {
      cniVersion: "1.1.0",
      name: "net1",
      type: "portmap",
      "cni.dev/valid-attachments": valid.map((containerID) => ({ containerID, ifname: "eth0" })),
    };
    expect(
      await rig.portmap(
        "GC",
        { container: rig.namespace, containerId: "", result: {} },
        { fields: { ...config, prevResult: null } },
      ),
    ).toMatchObject({ exitCode: 0 });
  };

  it("removes what no valid attachment of the network has, with and without record", async () => {
    const kept = await rig.attach({ mappings: [web] });
    await rig.attach({ mappings: [{ ...web, hostPort: 8081, hostIP: "192.0.2.1" }, dns] });
    const elsewhere = await rig.attach({ network: "net2", mappings: [{ ...web, hostPort: 8082 }] });
    const before = rig
      .elements()
      .filter((element) => !element.includes("10.1.0.3") && !element.includes("fd00:1::3"));
    await gc(kept.containerId);
    expect(rig.elements()).toEqual(before);
    expect(rig.namespace.run("nft list set inet netctl published_on4")).not.toContain("elements");
    expect(records()).toHaveLength(2);

    rmSync(join(rig.host.directories.state, "journal/net1"), { recursive: true });
    await gc();
    expect(rig.elements().filter((element) => element.includes("10.1.0"))).toEqual([]);
    expect(rig.elements()).toContain(`ports4 tcp . 8082 : ${elsewhere.ip4} . 80`);
  });

  it("keeps the addresses on which others publish", async () => {
    const one = await rig.attach({ mappings: [{ ...web, hostIP: "192.0.2.1" }] });
    await gc(one.containerId);
    const two = await rig.attachOnly();
    expect((await rig.portmap("ADD", two, { mappings: [web] })).json["code"]).toBe(100);
  });
});

describe("STATUS", () => {
  it("is content where nftables can be used, and refuses a configuration that could not be served", async () => {
    const nobody = { container: rig.namespace, containerId: "", result: {} };
    const status = (fields: object) =>
      rig.portmap("STATUS", nobody, { fields: { prevResult: null, ...fields } });
    expect(await status({})).toMatchObject({ exitCode: 0, json: {} });
    expect((await status({ backend: "x" })).json["code"]).toBe(ErrorCode.InvalidNetworkConfig);
  });
});
