import { readdirSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";

let service: BuiltService;
let lab: ClusterLab;

beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(async () => {
  lab = await ClusterLab.start(service, 1);
});
afterEach(async () => await lab.remove());

/** What the command says of words that it refuses. */
async function refusal(...words: readonly string[]): Promise<string> {
  try {
    await lab.netctl(1, ...words);
    return "";
  } catch (error) {
    return (error as { readonly stderr: string }).stderr;
  }
}

describe("words for networks over several hosts", () => {
  test("that can't be meant are refused with field and value, and nothing comes of them", async () => {
    await lab.netctl(1, "network", "create", "--subnet", "10.9.0.0/24", "here");
    for (const [words, said] of [
      ["a/b", 'Cannot name a network "a/b"'],
      ["../../x", 'Cannot name a network "../../x"'],
      ["--subnet 10.60.0.5/16 x", "Cannot use --subnet 10.60.0.5/16: it should be 10.60.0.0/16"],
      ["--subnet 10.60.0.0/30 x", "Cannot use --subnet 10.60.0.0/30 with driver overlay-vxlan"],
      ["--subnet 127.0.0.0/16 x", "Cannot use --subnet 127.0.0.0/16: these are loopback addresses"],
      ["--subnet 10.1.0.0/16 --subnet 10.2.0.0/16 x", "Cannot use --subnet 10.2.0.0/16"],
      ["--subnet 203.0.113.0/24 x", "Subnet 203.0.113.0/24 has 203.0.113.1 in it"],
      ["--subnet 10.9.0.0/16 x", "10.9.0.0/16 with 10.9.0.0/24 of network here"],
      ["--no-ipv4 x", "without IPv4 and without IPv6"],
      ["-o mtu=1451 x", "MTU 1451 is too large: the underlay of host h1 takes 1500 bytes, which leaves 1450"],
      ["-o encrypted -o mtu=1371 x", "MTU 1371 is too large"],
      ["--gateway 10.1.1.1 x", "Cannot use --gateway 10.1.1.1"],
      ["--label a=b x", "Cannot use --label a=b"],
      ["--ipam-driver dhcp x", "Cannot use --ipam-driver dhcp"],
    ] as const)
      expect(await refusal("network", "create", "-d", "overlay-vxlan", ...words.split(" "))).toContain(said);
    expect(readdirSync(lab.path(1, "conf"))).toEqual(["here.conflist"]);
  });

  test("are shown as they were given", async () => {
    const words = "--subnet 10.60.0.0/16 -o mode=l2 -o mtu=1400 -o vni=77 web".split(" ");
    await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", ...words);
    expect(await lab.netctl(1, "network", "ls")).toMatch(/ web +overlay-vxlan +swarm +10\.60\.0\.0\/16 /);
    const [shown] = JSON.parse(await lab.netctl(1, "network", "inspect", "web")) as readonly unknown[];
    expect(shown).toMatchObject({
      EnableIPv4: true,
      IPAM: { Config: [{ Subnet: "10.60.0.0/16" }] },
      Options: { mode: "l2", mtu: "1400", vni: "77" },
    });
    expect(await refusal("network", "create", "--subnet", "10.60.1.0/24", "other")).toContain(
      "10.60.1.0/24 with 10.60.0.0/16 of network web",
    );
  });

  test("of a cluster are refused before anything is written", async () => {
    const etcd = `http://${lab.memberAddress(0)}:2379`;
    await lab.netctl(1, "cluster", "leave");
    for (const [words, said] of [
      ["a/b", 'Cannot name a cluster "a/b"'],
      ["--pool 10.1.0.0/12,16,26", 'Cannot use pool "10.1.0.0/12,16,26": BASE should be 10.0.0.0/12'],
      ["--ca /none", "Cannot use --ca with"],
      ["--cert /none", "--cert and --key go together"],
      ["--user u --password-file /none", '--password-file: Cannot read "/none": ENOENT'],
      ["--host-name a/b", 'Cannot use --host-name "a/b"'],
    ] as const)
      expect(await refusal("cluster", "init", "--etcd", etcd, ...words.split(" "))).toContain(said);
    const secure = ["--etcd", etcd.replace("http", "https"), "--ca", "/none"];
    expect(await refusal("cluster", "init", ...secure)).toContain('--ca: Cannot read "/none": ENOENT');
    expect(await refusal("cluster", "status")).toContain("This host is in no cluster");
  });

  test("a record that nobody of ours has written stops nothing else", async () => {
    const record = {
      v: 1,
      name: "../../../escaped",
      id: "0",
      mode: "l3",
      vni: 9,
      internal: false,
      state: "active",
      subnets: [{ cidr: "10.61.0.0/16", blockLength: 26 }],
    };
    await lab.etcdctl("put", "/netctl/v1/default/net/../../../escaped", JSON.stringify(record));
    await lab.until("it is named", async () =>
      (await refusal("cluster", "status")).includes("no name that a network may have"),
    );
    await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "web");
    await lab.sandbox(1, "alice", "web");
    expect(readdirSync(lab.path(1, "state", "overlay", "networks"))).toEqual(["web.json"]);
  });

  test("a subnet from the pools keeps off what the hosts are reached by", async () => {
    lab.host(1).run("ip address add 10.128.7.7/20 dev up0; ip route add 10.129.0.0/24 dev up0");
    await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", "web");
    expect(await lab.netctl(1, "network", "ls")).toMatch(/ web .* 10\.130\.0\.0\/16 /);
  });
});
