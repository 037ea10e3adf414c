import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { DhcpServer } from "#testing/dhcp-server.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { ChainRunner, goBin, ourBin, targetOf } from "./chain-runner.ts";

/** Containers whose leases the daemon of Debian's dhcp plugin keeps, on a host on which the executables are ours by now. */

let host: ChainRunner;
let lan: TestNamespace;
let server: DhcpServer;
let daemon: ChildProcess | undefined;

beforeEach(async () => {
  host = new ChainRunner("dhcp-daemon");
  lan = TestNamespace.create("dhcp-lan");
  host.host.run(`ip link add up0 type veth peer name eth0 netns ${lan.name}; ip link set up0 up`);
  lan.run("ip addr add 10.6.0.1/24 dev eth0; ip link set eth0 up");
  server = await DhcpServer.start(lan, "eth0", ["--dhcp-range=10.6.0.50,10.6.0.60,255.255.255.0,2m"]);
  const args = [`--net=${host.host.path}`, join(goBin, "dhcp"), "daemon", "-socketpath", socket()];
  daemon = spawn("nsenter", args, { stdio: "ignore" });
  while (!existsSync(socket())) await sleep(20);
});
afterEach(async () => {
  await endDaemon();
  await server.stop();
  host.remove();
  lan.remove();
});

const socket = () => host.path("dhcp.sock");

async function endDaemon(): Promise<void> {
  if (!daemon) return;
  const ended = new Promise((resolve) => daemon?.once("exit", resolve));
  daemon.kill("SIGKILL");
  await ended;
  daemon = undefined;
}

function network() {
  const ipam = { type: "dhcp", daemonSocketPath: socket() };
  const plugins = [{ type: "macvlan", master: "up0", mode: "bridge", ipam }];
  return host.list({ cniVersion: "1.0.0", name: "lan", plugins });
}

test("CHECK by ours is content while the daemon runs, and our DEL has it give the lease back", async () => {
  const container = host.container();
  const target = targetOf(container);
  const { ips } = await host.add(goBin, network(), target);
  expect(ips).toHaveLength(1);
  await host.check(ourBin, network(), target);

  // What the container has lost is no lease's fault, and still named.
  const [address = ""] = /10\.6\.0\.\d+/u.exec(container.run("ip -o -4 addr show dev eth0")) ?? [];
  container.run(`ip addr del ${address}/24 dev eth0`);
  await expect(host.check(ourBin, network(), target)).rejects.toThrow(address);
  container.run(`ip addr add ${address}/24 dev eth0`);

  await host.del(ourBin, network(), target);
  await server.saw(new RegExp(`DHCPRELEASE\\(eth0\\) ${address.replaceAll(".", "\\.")}`, "u"));
  expect(container.run("ip -o link")).not.toContain("eth0");
  // As a runtime repeats it.
  await host.del(ourBin, network(), { ...target, netns: "" });
});

test("without the daemon CHECK says that nobody keeps the lease, and DEL takes the rest away", async () => {
  const container = host.container();
  const target = targetOf(container);
  await host.add(goBin, network(), target);
  await endDaemon();
  await expect(host.check(ourBin, network(), target)).rejects.toThrow(/there is no DHCP lease for eth0/u);
  await host.del(ourBin, network(), target);
  expect(container.run("ip -o link")).not.toContain("eth0");
});
