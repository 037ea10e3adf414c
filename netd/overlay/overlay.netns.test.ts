import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "vitest";
import { ClusterLab } from "#testing/cluster-lab.ts";
import { type BuiltService, buildService } from "#testing/netd-lab.ts";
import { testWith } from "#testing/requires.ts";

let service: BuiltService;
let lab: ClusterLab;

beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(async () => {
  lab = await ClusterLab.start(service, 3);
});
afterEach(async () => await lab.remove());

const create = async (name: string, ...words: readonly string[]) =>
  await lab.netctl(1, "network", "create", "-d", "overlay-vxlan", name, ...words);

/** The network is configured on every host. */
async function untilEverywhere(name: string): Promise<void> {
  for (const host of [1, 2, 3])
    await lab.until(`host ${host} knows ${name}`, async () =>
      (await lab.netctl(host, "network", "ls", "--json")).includes(`"${name}"`),
    );
}

describe("a network over three hosts", () => {
  testWith(["vxlan"], "joins containers of all of them, and leaves nothing when it is removed", async () => {
    await create("web", "--ipv6");
    await untilEverywhere("web");
    const addresses = [];
    for (const host of [1, 2, 3]) addresses.push(await lab.sandbox(host, `s${host}`, "web"));
    expect(new Set(addresses).size).toBe(3);
    for (const [index, address] of addresses.entries()) {
      const from = ((index + 1) % 3) + 1;
      await lab.untilPings(from, `s${from}`, address);
    }
    // The outside sees the host, not the container.
    await lab.untilPings(1, "s1", "203.0.113.254");

    for (const host of [1, 2, 3]) await lab.netctl(host, "sandbox", "rm", `s${host}`);
    await lab.netctl(2, "network", "rm", "web");
    for (const host of [1, 2, 3]) {
      await lab.until(`host ${host} is as it was`, () => {
        const links = lab.host(host).json<{ ifname: string }>("ip -j link");
        return links.map((link) => link.ifname).join() === "lo,up0";
      });
      expect(await lab.netctl(host, "network", "ls", "--json")).not.toContain("web");
      expect(lab.host(host).run("ip route show proto 201; ip -6 route show proto 201")).toBe("");
    }
  });

  testWith(
    ["vxlan"],
    "keeps to itself: another network does not reach it, nor an internal one the world",
    async () => {
      await create("web");
      await create("other");
      await create("inner", "--internal");
      for (const name of ["web", "other", "inner"]) await untilEverywhere(name);
      const web = await lab.sandbox(2, "web2", "web");
      await lab.sandbox(1, "other1", "other");
      const inner = await lab.sandbox(2, "inner2", "inner");
      await lab.sandbox(1, "inner1", "inner");
      await lab.sandbox(1, "web1", "web");
      // Once other has a tunnel too: else there would be no way to begin with.
      await lab.sandbox(2, "other2", "other");
      await lab.untilPings(1, "web1", web);
      await lab.untilPings(1, "inner1", inner);
      expect(await lab.pings(1, "other1", web)).toBe(false);
      expect(await lab.pings(1, "inner1", web)).toBe(false);
      expect(await lab.pings(1, "web1", inner)).toBe(false);
      expect(await lab.pings(1, "inner1", "203.0.113.254")).toBe(false);
      await lab.untilPings(1, "web1", "203.0.113.254");
    },
  );

  testWith(["vxlan"], "takes VXLAN from no one but its hosts", async () => {
    await create("web");
    await untilEverywhere("web");
    const victim = await lab.sandbox(1, "s1", "web");
    await lab.sandbox(2, "s2", "web");
    const [tunnel] = lab
      .host(1)
      .json<{ ifname: string; linkinfo: { info_data: { id: number } }; address: string }>(
        "ip -j -d link show type vxlan",
      );
    if (!tunnel) throw new Error("host 1 has no tunnel");
    // A neighbour on the wire that is no member builds the same tunnel, and knows everything.
    lab.underlay.wire.run(`ip link add evil type vxlan id ${tunnel.linkinfo.info_data.id} dstport 4789 local 203.0.113.254 nolearning
      ip link set evil up; ip address add 10.128.255.9/32 dev evil
      bridge fdb add ${tunnel.address} dev evil dst 203.0.113.1
      ip neigh add 10.200.0.1 lladdr ${tunnel.address} dev evil nud permanent
      ip route add ${victim}/32 via 10.200.0.1 dev evil onlink`);
    const before = packetsTo(victim);
    lab.underlay.wire.run(`ping -c3 -i0.2 -W1 -I 10.128.255.9 ${victim} >/dev/null || true`);
    expect(packetsTo(victim)).toBe(before);

    // Nor does a container of the host, under the address of another host.
    await lab.sandbox(1, "forger", "web");
    const ways = () => lab.host(1).run("nft list set inet netctl vxlan_sources4");
    const links = () => lab.host(1).run("nft list set inet netctl network_ways");
    await lab.until("the rules know the network's own links", () =>
      links().includes(`"${tunnel.ifname}" . "nvb`),
    );
    await lab.until("the rules know the hosts", () => ways().includes(". 203.0.113.2 . 203.0.113.1 ."));
    lab.host(1).run(`nsenter --net=${lab.path(1, "run", "netns", "forger")} sh -ec '
      ip address add 203.0.113.2/32 dev eth0
      ip link add evil type vxlan id ${tunnel.linkinfo.info_data.id} dstport 4789 local 203.0.113.2 nolearning
      ip link set evil up; ip address add 10.128.255.10/32 dev evil
      bridge fdb add ${tunnel.address} dev evil dst 203.0.113.1
      ip neigh add 10.200.0.1 lladdr ${tunnel.address} dev evil nud permanent
      ip route add ${victim}/32 via 10.200.0.1 dev evil onlink
      ping -c3 -i0.2 -W1 -I 10.128.255.10 ${victim} >/dev/null || true'`);
    expect(packetsTo(victim)).toBe(before);
  });
});

describe("names over three hosts", () => {
  /** What a sandbox is told for a name: addresses in order, or nothing. */
  const lookUp = (host: number, sandbox: string, name: string): string => {
    const netns = lab.path(host, "run", "netns", sandbox);
    const output = lab
      .host(host)
      .run(`nsenter --net=${netns} dig +short +tries=1 +time=5 @127.0.0.11 ${name} | sort`);
    return output.trim();
  };
  const nameKeys = () =>
    lab.underlay.wire
      .run(
        "ETCDCTL_API=3 etcdctl --endpoints http://203.0.113.254:2379 get --prefix --keys-only /netctl/v1/default/name/",
      )
      .split("\n")
      .filter((line) => line !== "");

  testWith(["vxlan"], "containers find each other wherever they are, until they are removed", async () => {
    await create("web");
    await create("quiet", "-o", "names=host");
    await create("mute", "--disable-dns");
    for (const name of ["web", "quiet", "mute"]) await untilEverywhere(name);
    const first = await lab.sandbox(1, "s1", "web");
    const second = await lab.sandbox(2, "s2", "web");
    await lab.until("s1 finds s2", () => lookUp(1, "s1", "s2") === second);
    await lab.until("s2 finds s1", () => lookUp(2, "s2", "s1.web") === first);
    await lab.until("an address has its name", () => lookUp(1, "s1", `-x ${second}`) === "s2.web.");
    expect(nameKeys()).toHaveLength(2);

    // A network that keeps its names to its hosts writes nothing for a container.
    const near = await lab.sandbox(1, "q1", "quiet");
    await lab.sandbox(2, "q2", "quiet");
    await lab.sandbox(2, "q3", "quiet");
    expect(lookUp(1, "q1", "q1")).toBe(near);
    expect(lookUp(1, "q1", "q2")).toBe("");
    expect(lookUp(1, "q1", "s2")).toBe("");
    await lab.sandbox(3, "m3", "mute");
    expect(nameKeys()).toHaveLength(2);
    const conflist = JSON.parse(lab.host(3).run(`cat ${lab.path(3, "conf", "mute.conflist")}`)) as {
      plugins: readonly { type: string }[];
    };
    expect(conflist.plugins.map(({ type }) => type)).toEqual(["overlay-vxlan", "portmap"]);

    // With etcd and its own netd dead, a host that starts again still knows the others' names.
    await lab.until("host 1 has kept what it knows", () =>
      lab
        .host(1)
        .run(`cat ${lab.path(1, "state", "overlay", "known-names.json")}`)
        .includes(second),
    );
    await lab.killEtcd();
    await lab.killNetd(1);
    lab.startNetd(1);
    await lab.until("s1 finds s2 again", () => lookUp(1, "s1", "s2") === second);
    await lab.netctl(2, "sandbox", "rm", "s2");
    lab.startEtcd();
    await lab.untilEtcdAnswers();
    await lab.until("s2 is no longer found", () => lookUp(1, "s1", "s2") === "");
    await lab.until("nothing is written of it", () => nameKeys().length === 1);
  });

  testWith(["vxlan"], "names of a host that dies stay, and go when it is removed", async () => {
    await create("web");
    await untilEverywhere("web");
    await lab.sandbox(1, "s1", "web");
    const second = await lab.sandbox(2, "s2", "web");
    await lab.until("s1 finds s2", () => lookUp(1, "s1", "s2") === second);
    const listed = JSON.parse(await lab.netctl(1, "cluster", "host", "ls", "--json")) as readonly {
      id: string;
      name: string;
    }[];
    const id = listed.find((each) => each.name === "h2")?.id ?? "";
    await lab.killNetd(2);
    lab.underlay.wire.run(
      `ETCDCTL_API=3 etcdctl --endpoints http://203.0.113.254:2379 del /netctl/v1/default/live/${id} >/dev/null`,
    );
    await expect(lab.netctl(1, "cluster", "host", "ls")).resolves.toMatch(/h2 .* no /);
    expect(lookUp(1, "s1", "s2")).toBe(second);
    await lab.netctl(1, "cluster", "host", "rm", id);
    await lab.until("s2 is no longer found", () => lookUp(1, "s1", "s2") === "");
    expect(nameKeys()).toHaveLength(1);
  });
});

/** Of what `netctl inspect --json` prints. */
interface Inspected {
  readonly networks: readonly {
    readonly overlay: unknown;
    readonly attachments: readonly { readonly differences: readonly string[] }[];
    readonly differences: readonly string[];
  }[];
}

/** ICMP that has arrived in sandbox s1. */
function packetsTo(_address: string): number {
  const netns = lab.path(1, "run", "netns", "s1");
  const text = lab.host(1).run(`nsenter --net=${netns} cat /proc/net/snmp`);
  const [head = "", values = ""] = text.split("\n").filter((line) => line.startsWith("Icmp:"));
  return Number(values.split(" ")[head.split(" ").indexOf("InEchos")] ?? Number.NaN);
}

describe("an operator", () => {
  testWith(["vxlan"], "takes most of the hosts out at once, and the rest goes on", async () => {
    await create("web");
    await untilEverywhere("web");
    await lab.sandbox(1, "s1", "web");
    const there = await lab.sandbox(2, "s2", "web");
    await lab.sandbox(3, "s3", "web");
    await lab.untilPings(1, "s1", there);
    const routes = () =>
      lab
        .host(1)
        .run("ip route show proto 201")
        .split("\n")
        .filter((line) => line.includes(" via "));
    await lab.until("host 1 has routes to both", () => routes().length === 2);
    const listed = JSON.parse(await lab.netctl(1, "cluster", "host", "ls", "--json")) as readonly {
      id: string;
      name: string;
    }[];
    const ids = listed.filter(({ name }) => name !== "h1").map(({ id }) => id);
    for (const host of [2, 3]) await lab.killNetd(host);
    for (const id of ids) await lab.etcdctl("del", `/netctl/v1/default/live/${id}`);
    await lab.netctl(1, "cluster", "host", "rm", ...ids);
    await lab.until("nothing leads to them", () => routes().length === 0);
    await expect(lab.netctl(1, "cluster", "status")).resolves.toContain("connected");
    await create("more");
    await lab.sandbox(1, "s4", "more");
    // One of them comes back, and is a host like any other.
    lab.startNetd(2);
    await lab.untilPings(1, "s1", there);
  });
});

describe("whatever fails", () => {
  testWith(["vxlan"], "containers reach each other while netd and the engine are dead", async () => {
    // Names are netd's work.
    await create("web", "--disable-dns");
    await untilEverywhere("web");
    await lab.sandbox(1, "s1", "web");
    const there = await lab.sandbox(2, "s2", "web");
    // Each host has heard of the other's addresses.
    await lab.untilPings(1, "s1", there);
    await lab.killNetd(1);
    await lab.killNetd(2);
    await lab.killEtcd();
    await lab.untilPings(1, "s1", there);
    // An ADD needs nothing but its host's block; nor does a DEL.
    const third = await lab.sandbox(2, "s3", "web");
    await lab.untilPings(1, "s1", third);
    await lab.netctl(2, "sandbox", "rm", "s3");

    // netd comes back before the engine does, and changes nothing.
    lab.startNetd(1);
    await lab.until(
      "netd knows what it knew",
      () => lab.log(1).split('"the overlay\'s agent has started"').length === 3,
    );
    await lab.until("it knows that the engine is away", async () => {
      const status = await lab.netctl(1, "cluster", "status").catch(String);
      return /engine away|ECONNREFUSED/.test(status);
    });
    await lab.untilPings(1, "s1", there);
    lab.startEtcd();
    await lab.untilEtcdAnswers();
    await lab.until("host 1 is connected", async () => {
      const status = await lab.netctl(1, "cluster", "status").catch(() => "");
      return status.includes("connected");
    });
    await lab.untilPings(1, "s1", there);
  });

  testWith(["vxlan"], "what somebody deletes of the tunnels is back within two seconds", async () => {
    await create("web");
    await untilEverywhere("web");
    await lab.sandbox(1, "s1", "web");
    const there = await lab.sandbox(2, "s2", "web");
    const name = lab.host(1).run("ip -o link show type vxlan").split(":")[1]?.trim() ?? "";
    for (const damage of [
      `ip link del ${name}`,
      "ip route flush proto 201",
      `ip neigh flush dev ${name} nud permanent`,
      "nft flush ruleset",
    ]) {
      lab.host(1).run(damage);
      await lab.until(`${damage} is mended`, async () => await lab.pings(1, "s1", there));
    }
    // What somebody else has put beside it is nobody's business, and is there still.
    lab.host(1).run(`ip route add 198.51.100.0/24 dev up0 proto 200
      bridge fdb append 02:00:00:00:00:99 dev ${name} dst 203.0.113.250 extern_learn
      ip neigh add 10.250.0.1 lladdr 02:00:00:00:00:99 dev ${name} extern_learn`);
    lab.host(1).run("ip route flush proto 201");
    await lab.untilPings(1, "s1", there);
    expect(lab.host(1).run("ip route show proto 200")).toContain("198.51.100.0/24");
    expect(lab.host(1).run(`bridge fdb show dev ${name}; ip neigh show dev ${name}`)).toMatch(
      /02:00:00:00:00:99[^]*10\.250\.0\.1/,
    );
    // Who asks is told the way, and without netd what of it is missing.
    const traced = await lab.netctl(1, "trace", "s1", there);
    expect(traced).toMatch(/VXLAN \d+ of network web to h2 at 203\.0\.113\.2/);
    await lab.until("its name is told too", async () =>
      (await lab.netctl(1, "trace", "s1", there)).includes("is called s2"),
    );
    expect(await lab.netctl(1, "trace", "s1", "s2.web")).toContain(`s1 to s2.web (${there})`);
    await expect(lab.netctl(1, "doctor", "overlay")).resolves.toContain("0 errors");
    await lab.killNetd(1);
    lab.host(1).run(`ip neigh flush dev ${name} nud permanent`);
    await expect(lab.netctl(1, "trace", "s1", there)).rejects.toMatchObject({
      stdout: expect.stringContaining("to h2: missing neighbour") as string,
    });
    // The engine, this host's leases and the kernel side by side, with what does not agree.
    const inspected = async () =>
      (JSON.parse(await lab.netctl(1, "inspect", "web", "--json")) as Inspected).networks[0];
    const ghost = "/netctl/v1/default/block/web/4/0a80ffc0-26";
    const block = { v: 1, cidr: "10.128.255.192/26", host: "f".repeat(16), nonce: "0" };
    await lab.etcdctl("put", ghost, JSON.stringify(block));
    lab.host(1).run(`ip route add 10.128.255.64/26 via 10.128.255.64 dev ${name} onlink proto 201`);
    const shown = await inspected();
    expect(shown?.overlay).toMatchObject({
      source: "engine",
      devices: [name],
      hosts: [
        { name: "h1", here: true, live: true, blocks: [{ given: 1 }], missing: [] },
        { name: "h2", here: false, underlay: ["203.0.113.2", "2001:db8:ff::2"], blocks: [{ given: null }] },
      ],
    });
    expect(shown?.differences).toEqual([
      expect.stringMatching(/^the engine has h2, and the kernel lacks neighbour 10\.\S+ at \S+$/),
      `the kernel has a route to 10.128.255.64/26 by ${name}, of which the engine knows nothing`,
      expect.stringMatching(/^block 10\.128\.255\.192\/26 is of host f{16}, whom the engine does not know/),
    ]);
    expect(shown?.attachments.flatMap((each) => each.differences)).toEqual([]);
    expect(await lab.netctl(1, "inspect", "web")).toMatch(/host {2}h2 .*kernel lacks 1/);
    await lab.etcdctl("del", ghost);

    lab.host(1).run(`touch -d "1 minute ago" ${lab.path(1, "run", "overlay", "status.json")}`);
    await expect(lab.netctl(1, "doctor", "overlay")).rejects.toMatchObject({
      stdout: expect.stringContaining("overlay-agent") as string,
    });
    lab.startNetd(1);
    await lab.untilPings(1, "s1", there);
    await lab.until("all agree again", async () => (await inspected())?.differences.length === 0);
    // The kernel tells of each loss: nobody has to wait until the agent looks by itself.
    expect(lab.log(1)).not.toContain("looking at it often");
    await lab.until("the rules are back", () => lab.host(1).run("nft list ruleset").includes("203.0.113.2"));
  });

  testWith(["vxlan"], "keys that are deleted all at once, or one by one, take nothing down", async () => {
    await create("web");
    await untilEverywhere("web");
    await lab.sandbox(1, "s1", "web");
    const there = await lab.sandbox(2, "s2", "web");
    await lab.untilPings(1, "s1", there);
    const tunnels = () => lab.host(1).run("ip -d link show type vxlan; ip route; bridge fdb; ip neigh");
    const before = tunnels();
    const keys = (await lab.etcdctl("get", "--prefix", "--keys-only", "/netctl/"))
      .split("\n")
      .filter(Boolean);
    // Blocks come first, the hosts after the record of the cluster itself: what is judged last is not believed first.
    const wrecking = keys.filter((key) => /\/(block|host|net)\//.test(key)).toSorted();
    for (const key of wrecking) await lab.etcdctl("del", key);
    await lab.until("the agent says so", () => lab.log(1).includes("hosts are left in the engine"));
    await lab.etcdctl("del", "--prefix", "/netctl/");
    await lab.until("status says that all is gone", async () =>
      (await lab.netctl(1, "cluster", "status").catch(String)).includes("the engine knows no cluster"),
    );
    expect(tunnels()).toBe(before);
    await lab.untilPings(1, "s1", there);
    expect(await lab.netctl(2, "cluster", "adopt")).toMatch(/^wrote \d+ entries/);
    await lab.untilPings(1, "s1", await lab.sandbox(3, "s3", "web"));
  });

  testWith(["vxlan"], "an engine that was emptied takes nothing down", async () => {
    await create("web");
    await untilEverywhere("web");
    await lab.sandbox(1, "s1", "web");
    const there = await lab.sandbox(2, "s2", "web");
    lab.underlay.wire.run(
      "ETCDCTL_API=3 etcdctl --endpoints http://203.0.113.254:2379 put x y >/dev/null; true",
    );
    await lab.untilPings(1, "s1", there);
    await lab.emptyEtcd();
    await lab.until("the agent says so", () => lab.log(1).includes("emptied"));
    await lab.untilPings(1, "s1", there);
    await lab.until("cluster status says so", async () => {
      const status = await lab.netctl(1, "cluster", "status").catch(String);
      return status.includes("Nothing of the engine is believed");
    });
    await lab.untilPings(1, "s1", there);

    // One of the hosts writes back what it knows, and all go on.
    expect(await lab.netctl(2, "cluster", "adopt")).toMatch(/^wrote \d+ entries/);
    for (const host of [1, 2, 3])
      await lab.until(`host ${host} believes it`, async () => {
        const status = await lab.netctl(host, "cluster", "status").catch(() => "");
        return status.includes("connected");
      });
    await expect(lab.netctl(1, "cluster", "adopt")).rejects.toThrow("there is nothing to adopt");
    await lab.untilPings(1, "s1", there);
    await lab.untilPings(1, "s1", await lab.sandbox(3, "s3", "web"));
  });

  testWith(["vxlan"], "another address of a host is known to the others", async () => {
    await create("web");
    await untilEverywhere("web");
    await lab.sandbox(1, "s1", "web");
    const there = await lab.sandbox(2, "s2", "web");
    lab
      .host(2)
      .run(
        "ip address flush dev up0 scope global; ip address add 203.0.113.77/24 dev up0; ip route add default via 203.0.113.254",
      );
    await lab.untilPings(1, "s1", there);
  });
});
