import { afterAll, beforeAll, describe, expect } from "vitest";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { testWith } from "#testing/requires.ts";
import { WireCapture } from "#testing/wire-capture.ts";

let service: BuiltService;
let lab: ClusterLab;
/** Addresses of s1 on host 1 and s2 on host 2, both in the network "flat"; o1 and o2 are in another one like it. */
let here: string;
let there: string;

beforeAll(async () => {
  service = await buildService();
  lab = await ClusterLab.start(service, 2);
  await create("flat", "--ipv6", "--opt", "mode=l2");
  await create("other", "--opt", "mode=l2", "--opt", "encrypted");
  here = await lab.sandbox(1, "s1", "flat");
  there = await lab.sandbox(2, "s2", "flat");
  await lab.sandbox(1, "o1", "other");
}, 120_000);
afterAll(async () => {
  await lab.remove();
  service.remove();
});

async function create(name: string, ...words: readonly string[]): Promise<void> {
  await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", name, ...words);
  for (const host of [1, 2])
    await lab.until(`host ${host} knows ${name}`, async () =>
      (await lab.netctl(host, "network", "ls", "--json")).includes(`"${name}"`),
    );
}

const inside = (host: number, sandbox: string, script: string): string =>
  lab.host(host).run(`nsenter --net=${lab.path(host, "run", "netns", sandbox)} ${script}`);

interface Interface {
  readonly address: string;
  readonly addr_info: readonly {
    readonly local: string;
    readonly prefixlen: number;
    readonly family: string;
  }[];
}

function eth0(host: number, sandbox: string): Interface {
  const [link] = JSON.parse(inside(host, sandbox, "ip -j address show eth0 scope global")) as Interface[];
  if (!link) throw new Error(`${sandbox} has no eth0`);
  return link;
}

const untilReached = async (from: string, address: string): Promise<void> =>
  await lab.until(`${from} reaches ${address}`, async () => await lab.pings(1, from, address));

describe("a network of mode l2", () => {
  testWith(["vxlan"], "is one segment: neighbours on other hosts, in both families", async () => {
    const far = eth0(2, "s2");
    const six = far.addr_info.find(({ family }) => family === "inet6");
    expect(far.addr_info[0]?.prefixlen).toBe(16);
    await untilReached("s1", there);
    await untilReached("s1", six?.local ?? "");
    for (const address of [there, six?.local])
      expect(inside(1, "s1", `ip neigh show ${address}`)).toContain(`lladdr ${far.address}`);
    // No router between them: the packet arrives with as many hops to live as it left with.
    expect(inside(1, "s1", `ping -c1 -W2 ${there}`)).toContain("ttl=64");
    expect(await lab.pings(1, "s1", "203.0.113.254")).toBe(true);
    // Who asks is told the way, by address and by name, and that there is none.
    for (const target of [there, "s2", "s2.flat"])
      await lab.until(`the way to ${target} is told`, async () =>
        (await lab.netctl(1, "trace", "s1", target).catch(() => "")).includes(
          `of network flat to h2 at 203.0.113.2, which has ${there} at ${far.address}`,
        ),
      );
    const nobody = here.replace(/\.\d+$/, ".250");
    await expect(lab.netctl(1, "trace", "s1", nobody)).rejects.toMatchObject({
      stdout: expect.stringContaining(`no host of the cluster has a container with ${nobody}`) as string,
    });
  });

  testWith(["vxlan"], "has engine and kernel side by side, encrypted or not", async () => {
    await lab.sandbox(2, "o2", "other");
    const differences = async () => {
      const { networks } = JSON.parse(await lab.netctl(1, "inspect", "--json")) as {
        readonly networks: readonly { readonly name: string; readonly differences: readonly string[] }[];
      };
      return networks.flatMap((each) => each.differences);
    };
    await untilReached("s1", there);
    await lab.until("they agree", async () => (await differences()).length === 0);
    // Nobody puts back what is taken away meanwhile.
    await lab.killNetd(1);
    lab
      .host(1)
      .run(
        "ip -o link show type vxlan | cut -d: -f2 | while read -r each; do bridge fdb flush dev $each 2>/dev/null || bridge fdb show dev $each | grep dst | while read -r mac rest; do bridge fdb del $mac dev $each self; done; done",
      );
    const found = await differences();
    expect(
      found.filter((each) => each.startsWith("the engine has h2, and the kernel lacks forwarding entry")),
    ).toHaveLength(4);
    lab.startNetd(1);
    await lab.until("they agree again", async () => (await differences()).length === 0);
    await lab.netctl(2, "sandbox", "rm", "o2");
  });

  testWith(["vxlan"], "floods nothing to other hosts", async () => {
    await untilReached("s1", there);
    const shout = `sh -c 'ping -c2 -i0.2 -W1 -b 10.128.255.255; ping -c2 -i0.2 -W1 -I eth0 224.0.0.251
      ping -c2 -i0.2 -W1 -I eth0 ff02::1; ping -c1 -W1 ${here.replace(/\.\d+$/, ".250")}; arping -c1 -w1 x; true' 2>/dev/null`;
    const capture = await WireCapture.start(lab.underlay.wire, "p1");
    inside(1, "s1", shout);
    const quiet = await capture.stop();
    expect(quiet.matching("udp port 4789")).toEqual([]);
    quiet.remove();
    const second = await WireCapture.start(lab.underlay.wire, "p1");
    await untilReached("s1", there);
    const heard = await second.stop();
    expect(heard.matching("udp port 4789").length).toBeGreaterThanOrEqual(2);
    heard.remove();
  });

  testWith(["vxlan"], "mends what somebody deletes of the way to a container", async () => {
    await untilReached("s1", there);
    const mac = eth0(2, "s2").address;
    const tunnel =
      lab
        .host(1)
        .run("ip -o link show type vxlan")
        .match(/: (nv[0-9a-z]+):/)?.[1] ?? "";
    const bridge =
      lab
        .host(1)
        .run(`ip -o link show ${tunnel}`)
        .match(/master (\S+)/)?.[1] ?? "";
    for (const damage of [
      `bridge fdb del ${mac} dev ${tunnel} self`,
      `bridge fdb del ${mac} dev ${tunnel} master`,
      `ip neigh flush dev ${bridge} nud permanent`,
      `ip link set ${tunnel} nomaster`,
      `ip link del ${tunnel}`,
    ]) {
      lab.host(1).run(damage);
      await lab.until(`${damage} is mended`, () => {
        const fdb = lab.host(1).run(`bridge fdb show dev ${tunnel} 2>/dev/null || true`);
        const neighbors = lab.host(1).run(`ip neigh show ${there} dev ${bridge}`);
        return (
          fdb.includes(`${mac} dst 203.0.113.2`) &&
          fdb.includes(`${mac} master ${bridge}`) &&
          neighbors.includes(mac)
        );
      });
      inside(1, "s1", `ip neigh flush dev eth0`);
      await untilReached("s1", there);
    }
    const port = lab.host(1).run(`bridge -d link show dev ${tunnel}`);
    for (const setting of [
      "learning off",
      "flood off",
      "mcast_flood off",
      "bcast_flood off",
      "neigh_suppress on",
    ])
      expect(port).toContain(setting);
  });

  testWith(["vxlan", "wireguard-go"], "is encrypted when asked, and keeps to itself", async () => {
    const secret = await lab.sandbox(2, "o2", "other");
    await untilReached("o1", secret);
    expect(inside(1, "o1", `ping -c1 -W2 ${secret}`)).toContain("ttl=64");
    expect(await lab.pings(1, "s1", secret)).toBe(false);
    expect(await lab.pings(1, "o1", there)).toBe(false);
    const { address } = eth0(2, "o2");
    expect(lab.host(1).run("bridge fdb show")).toContain(address);
    await lab.netctl(2, "sandbox", "rm", "o2");
    await lab.until("no way leads to who has gone", () => {
      return !lab.host(1).run("bridge fdb show").includes(address);
    });
  });

  testWith(["vxlan"], "forgets containers that go, and itself", async () => {
    const mac = eth0(2, "s2").address;
    await lab.netctl(2, "sandbox", "rm", "s2");
    await lab.until("host 1 has no way to it", () => !lab.host(1).run("bridge fdb show").includes(mac));
    expect(await lab.pings(1, "s1", there)).toBe(false);
    for (const sandbox of ["s1", "o1"]) await lab.netctl(1, "sandbox", "rm", sandbox);
    await lab.netctl(1, "network", "rm", "flat", "other");
    for (const host of [1, 2])
      await lab.until(`host ${host} is as it was`, () => {
        const links = lab.host(host).json<{ ifname: string }>("ip -j link");
        return links.map((link) => link.ifname).join() === "lo,up0";
      });
  });
});
