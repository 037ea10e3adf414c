import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { DhcpServer } from "#testing/dhcp-server.ts";
import { type BuiltService, buildService, exitCodeOf, NetdLab } from "#testing/netd-lab.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";

let service: BuiltService;
let lab: NetdLab;
let container: TestNamespace;
let server: DhcpServer;

beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());

beforeEach(async () => {
  lab = new NetdLab(service);
  container = lab.namespace();
  const lan = lab.namespace("lan");
  for (const each of [lab.host, lan, container])
    each.run("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
  lab.host.run(`ip link add br1 type bridge; ip link set br1 up
    ip link add up0 type veth peer name lan0 netns ${lan.name}; ip link set up0 master br1 up`);
  lan.run("ip addr add 10.1.0.1/24 dev lan0; ip addr add fd00:1::1/64 dev lan0 nodad; ip link set lan0 up");
  server = await DhcpServer.start(lan, "lan0", [
    "--dhcp-range=10.1.0.50,10.1.0.60,255.255.255.0,2m",
    "--dhcp-range=fd00:1::50,fd00:1::5f,64,2m",
  ]);
});
afterEach(async () => {
  await server.stop();
  await lab.remove();
});

/** Each lease's T1 is over. */
function makeDue(): void {
  for (const protocol of ["dhcp", "dhcp6"]) {
    const directory = lab.path("state", protocol, "net1");
    for (const name of readdirSync(directory)) {
      const path = join(directory, name);
      const stored = JSON.parse(readFileSync(path, "utf8")) as { lease: { times: { renewAt: number } } };
      stored.lease.times.renewAt = 0;
      writeFileSync(path, JSON.stringify(stored));
    }
  }
}

test("a netd that comes after one that was killed goes on with the leases of both families", async () => {
  const config = lab.config({ ipam: { type: "dhcp", families: ["ipv4", "ipv6"] } });
  const environment = { NETCTL_NETD: "" };
  const first = await lab.startNetd();
  const added = await lab.call("ADD", { netns: container.path, config, environment });
  expect(added.exitCode, added.stdout).toBe(0);
  const addresses = container.run("ip -o addr show dev eth0 scope global");
  expect(addresses).toMatch(/10\.1\.0\./);
  expect(addresses).toMatch(/fd00:1::5[0-9a-f]\/128/);
  first.kill("SIGKILL");
  await exitCodeOf(first);
  makeDue();
  await lab.startNetd();
  await server.saw(/(DHCPACK[^]*){2}/);
  await server.saw(/DHCPCONFIRM[^]*DHCPRENEW/);
  expect(container.run("ip -o addr show dev eth0 scope global")).toBe(addresses);
  const removed = await lab.call("DEL", { netns: container.path, config, environment });
  expect(removed.exitCode, removed.stdout).toBe(0);
  await server.saw(/DHCPRELEASE\(lan0\) 10\.1\.0\./);
  await server.saw(/DHCPRELEASE\(lan0\) 00:04:/);
});
