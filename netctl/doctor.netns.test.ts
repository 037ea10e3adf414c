import { writeFile } from "node:fs/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import type { Finding } from "./doctor/finding.ts";
import type { Inspection } from "./inspect/model.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(async () => {
  lab = new SuiteLab(suite, "doctor");
  // On by default where the module is loaded.
  lab.host.run("for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do [ ! -e $f ] || echo 0 > $f; done");
  await lab.ok(
    "network",
    "create",
    // Else a netd runs, which puts right what is made wrong here.
    "--disable-dns",
    "web",
    "--subnet",
    "10.1.0.0/24",
    "-o",
    "com.docker.network.bridge.name=br1",
  );
  await lab.ok("sandbox", "create", "a", "--network", "web");
});
afterEach(() => lab.remove());

async function examine(...words: readonly string[]) {
  const { exitCode, stdout, stderr } = await lab.netctl("doctor", "--json", ...words);
  expect(stderr).toBe("");
  const { findings, schema } = JSON.parse(stdout) as { schema: string; findings: readonly Finding[] };
  expect(schema).toBe("netctl.doctor/1");
  return { exitCode, findings, ids: findings.map(({ id }) => id) };
}

describe("netctl doctor", () => {
  it("finds nothing wrong with a network that works", async () => {
    // In this test there is no netd.
    expect(await examine()).toMatchObject({ exitCode: 0, ids: ["netd-absent"] });
    expect((await lab.netctl("doctor")).stdout).toMatch(/ checks: 0 errors, 0 warnings, 1 notes\n$/u);
  });

  it("names a foreign chain that drops what the network lets pass; so does inspect", async () => {
    lab.host.run("iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER");
    const { exitCode, findings } = await examine("foreign-firewall");
    expect(exitCode).toBe(1);
    const evidence =
      "table ip filter, chain FORWARD (hook forward, priority 0, policy drop) of docker drops packets from br1 to the outside, answers from the outside to br1 by its policy";
    expect(findings).toMatchObject([{ id: "foreign-firewall", severity: "error", subject: "web", evidence }]);
    expect(findings[0]?.remedy).toContain("iptables -I DOCKER-USER -i br1 -j ACCEPT");
    const inspected = JSON.parse(await lab.ok("inspect", "--json", "web")) as Inspection;
    expect(inspected.networks[0]?.blocked).toMatchObject([{ owner: "docker", evidence, certain: true }]);
    expect(await lab.ok("inspect", "web")).toContain(`! ${evidence}; remedy: iptables`);
    // What it says helps.
    lab.host.run(findings[0]?.remedy ?? "");
    expect(await examine("foreign-firewall")).toMatchObject({ exitCode: 0, findings: [] });
  });

  it.each([
    ["forwarding-off", "error", "sysctl -qw net.ipv4.ip_forward=0", "net.ipv4.ip_forward is 0"],
    ["own-table", "error", "nft flush ruleset", "table inet netctl is missing"],
    ["own-table", "error", "nft flush chain inet netctl postrouting", "table inet netctl is damaged"],
    [
      "own-rules-missing",
      "error",
      "nft delete element inet netctl masquerade4 '{ 10.1.0.2 }'",
      "missing are masquerade4 { 10.1.0.2 }",
    ],
    [
      "own-table-extended",
      "note",
      "nft add rule inet netctl postrouting counter",
      "there are rules in chains of table inet netctl that are not ours",
    ],
    ["link", "error", "ip addr del 10.1.0.1/24 dev br1", '"br1" is without the gateway address 10.1.0.1/24'],
    [
      "reverse-path-strict",
      "warning",
      "for n in 1 2; do ip link add up$n type veth peer name peer$n; ip link set up$n up; ip link set peer$n up; ip addr add 192.0.$n.1/24 dev up$n; ip route add default via 192.0.$n.2 metric $n; done; sysctl -qw net.ipv4.conf.up2.rp_filter=1",
      "up2 is one of 2 ways out",
    ],
    [
      "bridge-ports-exhausted",
      "warning",
      "for n in $(seq 461); do echo link add p$n master br1 type veth peer name q$n; echo link set q$n master br1; done | ip -batch -",
      "bridge br1 has 923 ports of at most 1023",
    ],
    [
      "bridge-netfilter-on",
      "note",
      "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
      "net.bridge.bridge-nf-call-iptables is 1",
    ],
  ] as const)("finds %s (%s) after: %s", async (id, severity, command, evidence) => {
    lab.host.run(command);
    const { findings, exitCode } = await examine();
    const found = findings.find((each) => each.id === id);
    expect(found, JSON.stringify(findings)).toMatchObject({ severity });
    expect(found?.evidence).toContain(evidence);
    expect(exitCode).toBe(severity === "note" ? 0 : 1);
  });

  it("finds that the table of connections is nearly full", async () => {
    // The table's size belongs to the host, and can't be changed from here: so it is filled.
    const size = Number(lab.host.run("cat /proc/sys/net/netfilter/nf_conntrack_max"));
    const flows = Math.ceil(0.9 * size);
    lab.host.run(`sysctl -qw net.netfilter.nf_conntrack_udp_timeout=600
      ${process.execPath} -e '
        const ports = 50_000, sockets = Math.ceil(${flows} / ports);
        const bound = () => new Promise((resolve) => {
          const socket = require("node:dgram").createSocket("udp4");
          socket.bind(0, "127.0.0.1", () => resolve(socket));
        });
        (async () => {
          for (let at = 0; at < sockets; at++) {
            const socket = await bound();
            for (let port = 1; port <= ports; port += 500) {
              await Promise.all(Array.from({ length: 500 }, (_, index) =>
                new Promise((resolve) => socket.send("x", port + index, "127.0.0.1", resolve))));
            }
            socket.close();
          }
        })();'`);
    const { findings, exitCode } = await examine("conntrack");
    expect(findings).toMatchObject([{ id: "conntrack-full", severity: "warning" }]);
    expect(findings[0]?.evidence).toContain(` of ${size} connections are tracked`);
    expect(exitCode).toBe(1);
  });

  it("finds what containers left that are gone", async () => {
    const { containerId, netns } = JSON.parse(await lab.ok("sandbox", "ls", "--json"))[0] as {
      containerId: string;
      netns: string;
    };
    lab.host.run(`umount ${netns}`);
    await writeFile(lab.path("state", "networks", "web", "10.1.0.99"), "nobody\r\neth0");
    const { findings } = await examine("stale-records", "stale-leases");
    expect(findings).toMatchObject([
      { id: "stale-record", subject: `web ${containerId} eth0` },
      { id: "stale-lease", subject: "web" },
    ]);
    expect(findings[0]?.evidence).toContain(`its namespace ${netns} is gone`);
    expect(findings[1]?.evidence).toContain("1 of 2 addresses");
  });

  it("finds configurations that hide each other", async () => {
    await writeFile(
      lab.path("conf", "00-other.conflist"),
      JSON.stringify({ cniVersion: "1.0.0", name: "other", plugins: [{ type: "bridge" }] }),
    );
    await writeFile(
      lab.path("conf", "99-web.conflist"),
      JSON.stringify({ cniVersion: "1.0.0", name: "other", plugins: [{ type: "bridge" }] }),
    );
    await writeFile(lab.path("conf", "broken.conflist"), "{");
    const { findings } = await examine("conf");
    expect(findings.map(({ id, subject }) => `${id} ${subject}`)).toEqual([
      `conf-duplicate ${lab.path("conf", "99-web.conflist")}`,
      `conf-unusable ${lab.path("conf", "broken.conflist")}`,
      `conf-first ${lab.path("conf")}`,
    ]);
    expect(findings[2]?.evidence).toContain("takes other (00-other.conflist)");
  });

  it("lists its checks, and knows no others", async () => {
    expect((await lab.netctl("doctor", "--list")).stdout).toContain("foreign-firewall");
    expect(await lab.netctl("doctor", "nonsense")).toMatchObject({ exitCode: 2 });
  });
});
