import { once } from "node:events";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { relative } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import type { Inspection } from "./inspect/model.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "netctl");
});
afterEach(() => lab.remove());

const inspection = async (...words: readonly string[]) =>
  JSON.parse(await lab.ok("inspect", "--json", ...words)) as Inspection;

/** Everything that does not agree, wherever it stands. */
const differences = ({ networks, sandboxes }: Inspection) => [
  ...networks.flatMap((network) => [
    ...network.differences,
    ...network.attachments.flatMap((each) => each.differences),
  ]),
  ...sandboxes.flatMap((sandbox) => sandbox.differences),
];
const links = () => JSON.parse(lab.host.run("ip -j link")) as { readonly ifname: string }[];

/** Names of all files below the lab's directory but locks, which stay. */
async function files(): Promise<readonly string[]> {
  const entries = await readdir(lab.directory, { recursive: true, withFileTypes: true });
  return entries
    .filter(
      (entry) =>
        entry.isFile() && !/lock|last_reserved|state\/log\//.test(`${entry.parentPath}/${entry.name}`),
    )
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(lab.directory.length + 1))
    .sort();
}

describe("netctl", () => {
  it("makes a network and sandboxes that reach each other and the gateway, and leaves nothing", async () => {
    await lab.ok(
      "network",
      "create",
      "web",
      "--subnet",
      "10.1.0.0/24",
      "--subnet",
      "fd01::/64",
      "-o",
      "mtu=1400",
    );
    await lab.ok("sandbox", "create", "a", "--network", "web");
    await lab.ok("sandbox", "create", "b", "--network", "web:ip=10.1.0.77,mac=02:00:00:00:00:77");

    await lab.ok("sandbox", "exec", "a", "--", "ping", "-c1", "-W10", "10.1.0.77");
    await lab.ok("sandbox", "exec", "a", "--", "ping", "-c1", "-W10", "10.1.0.1");
    await lab.ok("sandbox", "exec", "b", "--", "ping", "-6", "-c1", "-W10", "fd01::1");
    expect(await lab.ok("sandbox", "exec", "b", "--", "cat", "/sys/class/net/eth0/address")).toBe(
      "02:00:00:00:00:77\n",
    );
    expect(await lab.ok("sandbox", "exec", "b", "--", "cat", "/sys/class/net/eth0/mtu")).toBe("1400\n");

    const whole = await inspection();
    expect(differences(whole)).toEqual([]);
    expect(whole.problems).toEqual([]);
    const [web] = whole.networks;
    expect(web?.bridges[0]?.link?.addresses).toContain("10.1.0.1/24");
    expect(web?.bridges[0]?.ports).toHaveLength(2);
    const b = web?.attachments.find(({ sandbox }) => sandbox === "b");
    expect(b).toMatchObject({
      alive: true,
      cached: true,
      addresses: expect.arrayContaining(["10.1.0.77/24"]),
    });
    expect(b?.inside).toMatchObject({ name: "eth0", mac: "02:00:00:00:00:77", mtu: 1400 });
    expect(b?.outside[0]).toMatchObject({ kind: "veth", master: web?.bridges[0]?.name });
    expect(b?.leases).toContain("10.1.0.77");
    expect(b?.elements.join()).toMatch(/masquerade4 .*10\.1\.0\.77/);

    expect(await lab.ok("sandbox", "rm", "a", "b")).toBe("a\nb\n");
    expect(await lab.ok("network", "rm", "web")).toBe("web\n");
    expect(links().map(({ ifname }) => ifname)).toEqual(["lo"]);
    expect(await files()).toEqual([]);
    expect((await readdir(lab.path("run/netns"))).length).toBe(0);
  });

  it("lets containers out under the host's address, unless told not to", async () => {
    lab.host.run(
      "ip link add outside type bridge; ip addr add 198.51.100.1/24 dev outside; ip link set outside up",
    );
    await lab.ok("network", "create", "out");
    await lab.ok("network", "create", "in", "-o", "com.docker.network.bridge.enable_ip_masquerade=false");
    await lab.ok("sandbox", "create", "a", "--network", "out");
    await lab.ok("sandbox", "create", "b", "--network", "in");
    const { networks } = await inspection();
    const elements = (name: string) => networks.find((each) => each.name === name)?.attachments[0]?.elements;
    expect(elements("out")?.length).toBe(1);
    expect(elements("in")).toEqual([]);
  });

  it("runs a command with its own host name, files, interfaces, stdio and exit code", async () => {
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24");
    await lab.ok("sandbox", "create", "a", "--network", "web");
    const command = "hostname; ls /sys/class/net | tr '\\n' ' '; grep -w a /etc/hosts; echo oops >&2; exit 7";
    const ended = await lab.netctl("sandbox", "exec", "a", "--", "sh", "-c", command);
    expect(ended).toEqual({ exitCode: 7, stdout: "a\neth0 lo 10.1.0.2\ta\n", stderr: "oops\n" });
    expect((await lab.netctl("sandbox", "exec", "a", "--", "no-such-command")).exitCode).toBe(127);
    expect((await lab.netctl("sandbox", "exec", "a", "--", "/etc/hosts")).exitCode).toBe(126);
    // Words after -- are the command's, also those that netctl knows.
    expect(await lab.ok("sandbox", "exec", "a", "--", "echo", "--json", "--", "--state-dir", "x")).toBe(
      "--json -- --state-dir x\n",
    );
    expect(lab.host.run("cat /etc/hosts")).not.toMatch(/10\.1\.0\.2/);
  });

  it("shows the DNS servers that a network names to the sandbox's commands alone", async () => {
    const bridge = {
      type: "bridge",
      bridge: "br0",
      ipam: { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24" }]] },
      dns: { nameservers: ["192.0.2.53"], search: ["web.test"] },
    };
    const conflist = { cniVersion: "1.1.0", name: "web", plugins: [bridge] };
    await mkdir(lab.path("conf"));
    await writeFile(lab.path("conf/web.conflist"), JSON.stringify(conflist));
    await lab.ok("sandbox", "create", "a", "--network", "web");
    const seen = await lab.ok("sandbox", "exec", "a", "--", "cat", "/etc/resolv.conf");
    expect(seen).toBe("search web.test\nnameserver 192.0.2.53\n");
    expect(await readFile("/etc/resolv.conf", "utf8")).not.toContain("192.0.2.53");
  });

  it("hands signals on to the command", async () => {
    await lab.ok("sandbox", "create", "a");
    const child = lab.start(
      "sandbox",
      "exec",
      "a",
      "--",
      "sh",
      "-c",
      "trap 'exit 9' TERM; echo ready; sleep 600 & wait",
    );
    await once(child.stdout, "data");
    // nsenter has become netctl: the same process.
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    expect(await ended).toEqual([9, null]);
    await lab.ok("sandbox", "rm", "-f", "a");
  });

  it("does not remove a sandbox or a network that is in use", async () => {
    await lab.ok("network", "create", "web");
    await lab.ok("sandbox", "create", "a", "--network", "web");
    const child = lab.start("sandbox", "exec", "a", "--", "sh", "-c", "echo ready; exec sleep 600");
    await once(child.stdout, "data");
    const ended = once(child, "exit");

    const sandbox = await lab.netctl("sandbox", "rm", "a");
    expect(sandbox.exitCode).toBe(1);
    expect(sandbox.stderr).toMatch(/^netctl: sandbox a is in use by (sleep|sh) \(pid \d+\)/);
    const network = await lab.netctl("network", "rm", "web");
    expect(network.exitCode).toBe(1);
    expect(network.stderr).toMatch(/^netctl: network web has active endpoints: a/);

    await lab.ok("sandbox", "rm", "--force", "a");
    expect(await ended).toEqual([137, null]);
    await lab.ok("network", "rm", "web");
  });

  it("takes everything back when an ADD fails", async () => {
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24");
    await lab.ok("network", "create", "db", "--subnet", "10.2.0.0/24");
    await lab.ok("sandbox", "create", "a", "--network", "db:ip=10.2.0.9");
    const before = { links: links().map(({ ifname }) => ifname), files: await files() };
    const failed = await lab.netctl(
      "sandbox",
      "create",
      "b",
      "--network",
      "web",
      "--network",
      "db:ip=10.2.0.9",
    );
    expect(failed.exitCode).toBe(125);
    expect(failed.stderr).toMatch(
      /^netctl: Cannot attach eth1 to network "db": plugin bridge failed ADD with code \d+: .*10\.2\.0\.9/,
    );
    expect(failed.stderr.trimEnd()).not.toContain("\n");
    // The bridge of "web" stays: it is the network's, not the attachment's.
    expect(
      links()
        .map(({ ifname }) => ifname)
        .filter((name) => name.startsWith("veth")),
    ).toEqual(before.links.filter((name) => name.startsWith("veth")));
    expect(await files()).toEqual(before.files);
    expect(await lab.ok("sandbox", "ls", "-q")).toBe("a\n");
  });

  it("does nothing at all for a network or an executable that is missing", async () => {
    await lab.ok("network", "create", "web");
    const missing = await lab.netctl("sandbox", "create", "a", "--network", "web", "--network", "wbe");
    expect(missing).toMatchObject({
      exitCode: 125,
      stderr: expect.stringMatching(/^netctl: network wbe not found in /),
    });
    await writeFile(
      lab.path("conf/foreign.conflist"),
      JSON.stringify({ cniVersion: "1.0.0", name: "foreign", plugins: [{ type: "no-such-plugin" }] }),
    );
    const plugin = await lab.netctl("sandbox", "create", "a", "--network", "web", "--network", "foreign");
    expect(plugin).toMatchObject({ exitCode: 125, stderr: expect.stringContaining("no-such-plugin") });
    expect(await lab.ok("sandbox", "ls", "-q")).toBe("");
    expect(links().map(({ ifname }) => ifname)).toEqual(["lo"]);
  });

  /** Creates a sandbox in network "web", and sends the signal once there is a record of it. @returns code and signal */
  async function endWhileCreating(name: string, signal: NodeJS.Signals) {
    const child = lab.start("sandbox", "create", name, "--network", "web");
    const ended = once(child, "exit");
    while (child.exitCode === null && !(await files()).includes(`state/sandboxes/${name}.json`))
      await new Promise((resolve) => setTimeout(resolve, 2));
    child.kill(signal);
    return (await ended) as [code: number | null, signal: NodeJS.Signals | null];
  }

  it("removes a sandbox whose creation was killed, and one whose namespace has gone", async () => {
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24");
    await lab.ok("sandbox", "create", "a", "--network", "web");
    lab.host.run(`umount '${lab.path("run/netns/a")}'`);
    expect(JSON.parse(await lab.ok("sandbox", "ls", "--json"))).toMatchObject([{ name: "a", state: "lost" }]);
    expect((await lab.netctl("sandbox", "exec", "a", "--", "true")).exitCode).toBe(1);
    expect(differences(await inspection("a")).join()).toMatch(/is gone/);

    await endWhileCreating("b", "SIGKILL");

    expect(await lab.ok("sandbox", "rm", "a", "b")).toBe("a\nb\n");
    await lab.ok("network", "rm", "web");
    expect(await files()).toEqual([]);
    expect(links().map(({ ifname }) => ifname)).toEqual(["lo"]);
  });

  it("takes back what it had begun when it is interrupted", async () => {
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24");
    const before = await files();
    // A busy machine may let it come to its end before the signal is sent: once more, then.
    let end = await endWhileCreating("a", "SIGTERM");
    while (end[0] === 0) {
      await lab.ok("sandbox", "rm", "a");
      end = await endWhileCreating("a", "SIGTERM");
    }
    expect(end).toEqual([143, null]);
    expect(await files()).toEqual(before);
    expect(await readdir(lab.path("run/netns"))).toEqual([]);
  });

  it("removes a sandbox whose record is damaged, by the cached results", async () => {
    await lab.ok("network", "create", "web");
    await lab.ok("sandbox", "create", "a", "--network", "web");
    await writeFile(lab.path("state/sandboxes/a.json"), "{");
    expect(JSON.parse(await lab.ok("sandbox", "ls", "--json"))).toMatchObject([
      { name: "a", state: "damaged" },
    ]);
    await lab.ok("sandbox", "rm", "a");
    await lab.ok("network", "rm", "web");
    expect(await files()).toEqual([]);
  });

  it("shows where the kernel differs from the records", async () => {
    await lab.ok("network", "create", "web", "--disable-dns", "--subnet", "10.1.0.0/24");
    await lab.ok("sandbox", "create", "a", "--network", "web");
    const tree = await lab.ok("inspect", "a");
    expect(tree).toContain("10.1.0.2/24");
    expect(await lab.ok("inspect", "web")).toMatch(/port {2}veth\w+ {2}up {2}a {2}eth0/);
    expect(tree).not.toContain("!");
    const found = await inspection();
    const port = found.networks[0]?.attachments[0]?.outside[0]?.name ?? "";
    await lab.ok("sandbox", "exec", "a", "--", "ip", "addr", "del", "10.1.0.2/24", "dev", "eth0");
    await lab.ok("sandbox", "exec", "a", "--", "ip", "addr", "add", "10.9.9.9/32", "dev", "eth0");
    lab.host.run(`ip link set ${port} nomaster`);
    lab.host.run("nft flush set inet netctl masquerade4");
    lab.host.run(
      `mv '${lab.path("state/networks/web/10.1.0.2")}' '${lab.path("state/networks/web/10.1.0.5")}'`,
    );
    expect(differences(await inspection())).toEqual([
      "eth0 lacks its recorded address 10.1.0.2/24",
      "eth0 has address 10.9.9.9/32, which is not recorded",
      expect.stringMatching(/^veth\w+ is no port of nc-/),
      "no lease for 10.1.0.2",
      "a lease for 10.1.0.5, which is not its address",
      "10.1.0.2 is not masqueraded, though its record says so",
    ]);
    expect(await lab.ok("inspect")).toContain("! eth0 lacks its recorded address 10.1.0.2/24");
    expect((await lab.netctl("inspect", "nothing")).stderr).toBe(
      "netctl: Cannot inspect nothing: no such network, sandbox, container, process, namespace or link; there are a, host, web\n",
    );
  });

  it("misses no interface in a network that makes none", async () => {
    await lab.ok("network", "create", "quiet", "-d", "none");
    await lab.ok("sandbox", "create", "a", "--network", "quiet");
    expect(differences(await inspection())).toEqual([]);
    await lab.ok("sandbox", "rm", "a");
  });

  it("never ends the processes of the host, whatever is mounted in the place of a sandbox", async () => {
    await lab.ok("sandbox", "create", "a");
    const place = lab.path("run/netns/a");
    lab.host.run(`umount '${place}'; mount --bind '${lab.host.path}' '${place}'`);
    const child = lab.start("sandbox", "rm", "-f", "a");
    const refused = await once(child, "exit");
    lab.host.run(`umount '${place}'`);
    expect(refused).toEqual([1, null]);
    await lab.ok("sandbox", "rm", "a");
  });

  it("picks a subnet that nobody on the host uses, also when many ask at once", async () => {
    lab.host.run("ip link add lan type bridge; ip addr add 172.17.5.1/24 dev lan; ip link set lan up");
    lab.host.run("ip route add 172.18.0.0/16 dev lan");
    const names = ["n1", "n2", "n3", "n4"];
    await Promise.all(names.map((name) => lab.ok("network", "create", name)));
    const networks = JSON.parse(await lab.ok("network", "ls", "--json")) as {
      readonly subnets: readonly string[];
    }[];
    expect(networks.flatMap(({ subnets }) => subnets).sort()).toEqual([
      "172.19.0.0/16",
      "172.20.0.0/16",
      "172.21.0.0/16",
      "172.22.0.0/16",
    ]);
  });

  it("keeps a bridge that was there before the network, and one with a port of somebody else", async () => {
    lab.host.run("ip link add shared type bridge");
    await lab.ok("network", "create", "old", "-o", "com.docker.network.bridge.name=shared");
    await lab.ok("network", "create", "new", "-o", "com.docker.network.bridge.name=fresh");
    for (const network of ["old", "new"]) {
      await lab.ok("sandbox", "create", network, "--network", network);
      await lab.ok("sandbox", "rm", network);
    }
    lab.host.run("ip link add guest type veth peer name other; ip link set guest master fresh");
    await lab.ok("network", "rm", "old", "new");
    expect(links().map(({ ifname }) => ifname)).toEqual(expect.arrayContaining(["shared", "fresh"]));
  });

  it("writes no relative path into a network, which others read from elsewhere", async () => {
    const state = relative(process.cwd(), lab.path("some/state"));
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/24", "--state-dir", state);
    expect(await readFile(lab.path("conf/web.conflist"), "utf8")).toContain(
      `"dataDir": "${lab.path("some/state/networks")}"`,
    );
  });

  it("writes networks that any CNI runtime can read", async () => {
    const flags = "--subnet 10.1.0.0/24 --gateway 10.1.0.254 --ip-range 10.1.0.128/25 --label team=a";
    await lab.ok("network", "create", "web", ...flags.split(" "));
    const conflist = JSON.parse(await readFile(lab.path("conf/web.conflist"), "utf8")) as unknown;
    expect(conflist).toMatchObject({
      cniVersion: "1.0.0",
      cniVersions: ["1.0.0", "1.1.0"],
      name: "web",
      plugins: [
        {
          type: "bridge",
          bridge: expect.stringMatching(/^nc-[0-9a-f]{12}$/),
          isGateway: true,
          ipMasq: true,
          ipam: {
            type: "host-local",
            dataDir: lab.path("state/networks"),
            ranges: [
              [
                {
                  subnet: "10.1.0.0/24",
                  gateway: "10.1.0.254",
                  rangeStart: "10.1.0.128",
                  rangeEnd: "10.1.0.254",
                },
              ],
            ],
            routes: [{ dst: "0.0.0.0/0" }],
          },
        },
        { type: "dns", capabilities: { aliases: true, dns: true } },
        { type: "portmap", capabilities: { portMappings: true } },
      ],
    });
    expect(JSON.parse(await lab.ok("network", "inspect", "web"))).toMatchObject([
      {
        Name: "web",
        Driver: "bridge",
        Labels: { team: "a" },
        IPAM: { Config: [{ Subnet: "10.1.0.0/24", IPRange: "10.1.0.128/25", Gateway: "10.1.0.254" }] },
      },
    ]);
  });

  it("takes subnets of both families from the pools that are configured", async () => {
    const pools = [
      { base: "10.200.0.0/23", size: 24 },
      { base: "fd12::/62", size: 64 },
    ];
    await writeFile(lab.path("config.json"), JSON.stringify({ "default-address-pools": pools }));
    const create = (name: string, ...flags: string[]) =>
      lab.netctl("network", "create", name, "--config", lab.path("config.json"), ...flags);
    lab.host.run("ip link add lan type bridge; ip link set lan up; ip addr add 10.200.0.1/30 dev lan");
    lab.host.run("ip -6 route add unreachable fd12::/64");
    expect((await create("a", "--ipv6", "--subnet", "0.0.0.0/26")).exitCode).toBe(0);
    expect((await create("b", "--ipv6")).exitCode).toBe(0);
    const networks = JSON.parse(await lab.ok("network", "ls", "--json", "-f", "type=custom")) as {
      subnets: string[];
    }[];
    expect(networks.map(({ subnets }) => subnets)).toEqual([
      ["10.200.0.64/26", "fd12:0:0:1::/64"],
      ["10.200.1.0/24", "fd12:0:0:2::/64"],
    ]);
    const full = await create("c");
    expect(full.exitCode).toBe(1);
    expect(full.stderr).toMatch(/all predefined address pools have been fully subnetted/);
    expect((await lab.netctl("network", "create", "c", "--config", "/nowhere")).stderr).toMatch(
      /^netctl: Cannot read \/nowhere/,
    );
  });

  it("gives an address outside of the range to who asks for it, and to nobody else", async () => {
    const flags = "--subnet 10.1.0.0/28 --ip-range 10.1.0.8/30 --aux-address router=10.1.0.4".split(" ");
    await lab.ok("network", "create", "web", ...flags);
    await lab.ok("sandbox", "create", "a", "--network", "web", "--ip", "10.1.0.3");
    await lab.ok("sandbox", "create", "b", "--network", "web", "--ip", "10.1.0.14");
    for (const name of ["c", "d", "e", "f"]) await lab.ok("sandbox", "create", name, "--network", "web");
    const shown = await lab.ok("sandbox", "ls");
    expect(shown.match(/10\.1\.0\.\d+/g)).toEqual([3, 14, 8, 9, 10, 11].map((last) => `10.1.0.${last}`));
    const full = await lab.netctl("sandbox", "create", "g", "--network", "web");
    expect(full.stderr).toMatch(/no IP addresses available in range set: 10\.1\.0\.8-10\.1\.0\.11/);
    for (const taken of ["10.1.0.3", "10.1.0.4", "10.1.0.1", "10.1.0.15"]) {
      expect((await lab.netctl("sandbox", "create", "g", "--network", "web", "--ip", taken)).exitCode).toBe(
        125,
      );
    }
    const { networks } = JSON.parse(await lab.ok("ipam", "ls", "--json")) as { networks: unknown };
    expect(networks).toMatchObject([{ capacity: 4, used: 4, free: 0 }]);
  });

  it("gives no container an auxiliary address, and routes by the one that is named as gateway", async () => {
    const aux = ["router=10.1.0.2", "DefaultGatewayIPv4=10.1.0.4"].flatMap((each) => ["--aux-address", each]);
    await lab.ok("network", "create", "web", "--subnet", "10.1.0.0/29", ...aux);
    for (const name of ["a", "b"]) await lab.ok("sandbox", "create", name, "--network", "web");
    const addresses = await lab.ok("sandbox", "ls");
    expect(addresses).toMatch(/10\.1\.0\.3\/29\n.*10\.1\.0\.5\/29/s);
    expect(await lab.ok("sandbox", "exec", "a", "--", "ip", "route", "show", "default")).toMatch(
      /^default via 10\.1\.0\.4 /,
    );
    expect(JSON.parse(await lab.ok("network", "inspect", "web"))).toMatchObject([
      {
        IPAM: {
          Config: [
            {
              Subnet: "10.1.0.0/29",
              AuxiliaryAddresses: { router: "10.1.0.2", DefaultGatewayIPv4: "10.1.0.4" },
            },
          ],
        },
      },
    ]);
  });
});
