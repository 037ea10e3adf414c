import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect } from "vitest";
import type { NetworkList } from "#cni/conflist.ts";
import type { JsonObject } from "#cni/json.ts";
import { testWith } from "#testing/requires.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { ask, startServer } from "#testing/traffic.ts";
import { ChainRunner, goBin, ourBin, targetOf } from "./chain-runner.ts";
import { FirewalldRig } from "./firewalld.ts";

/** Debian's firewalld, the real one, on a host whose containers it would refuse to forward for. */

/** One host on which it runs, with a neighbour on its LAN: the host is 192.0.2.1, the neighbour .2. */
class Site {
  readonly lan = TestNamespace.create("firewalld-lan");
  readonly firewalld: FirewalldRig;
  readonly runner: ChainRunner;
  readonly #stops: (() => void)[] = [];
  #netd: ChildProcess | undefined;

  private constructor() {
    const more: Record<string, string> = { NETCTL_NETD: "never", NETCTL_NETD_CGROUP: "none" };
    this.runner = new ChainRunner("firewalld", more);
    this.firewalld = new FirewalldRig(this.runner.host);
    Object.assign(more, this.firewalld.environment);
    this.runner.host.run(`ip link add up0 type veth peer name eth0 netns ${this.lan.name}; ip link set up0 up
      ip addr add 192.0.2.1/24 dev up0`);
    this.lan.run("ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0");
  }

  static async open(): Promise<Site> {
    const site = new Site();
    await site.firewalld.startBus();
    await site.firewalld.start();
    site.#stops.push(await startServer(site.lan, "lan", [7000]));
    return site;
  }

  /** Ours, which puts back what is taken away. */
  async startNetd(): Promise<void> {
    const program = join(ourBin, "../lib/netd.cjs");
    this.#netd = spawn("nsenter", [`--net=${this.runner.host.path}`, process.execPath, program], {
      env: { ...this.runner.environment, NETCTL_LOG_FILE: this.runner.path("netd.log") },
      stdio: "ignore",
    });
    while (!this.log().includes('"ready"')) await sleep(20);
  }

  log(): string {
    const path = this.runner.path("netd.log");
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  netctl(...words: readonly string[]): string {
    const args = [`--net=${this.runner.host.path}`, join(ourBin, "netctl"), ...words];
    return execFileSync("nsenter", args, { encoding: "utf8", env: this.runner.environment });
  }

  /** A container of the network, with a server on port 80. */
  async container(
    network: NetworkList,
    { hostPort, bin = ourBin }: { hostPort?: number; bin?: string } = {},
  ) {
    const container = this.runner.container();
    const mappings = hostPort === undefined ? [] : [{ hostPort, containerPort: 80, protocol: "tcp" }];
    const aliases = { pods: [`c${hostPort ?? 0}`] };
    const target = targetOf(container, { portMappings: mappings, aliases });
    const { ips } = await this.runner.add(bin, network, target);
    this.#stops.push(await startServer(container, container.name, [80]));
    const address = `10.1.0.${(ips[0]?.address.address.value ?? 0n) & 0xffn}`;
    return { container, target, address, hostPort: hostPort ?? 0 };
  }

  /** Whether the container reaches the LAN, and the LAN its published port. */
  async flows({
    container,
    hostPort,
  }: {
    container: TestNamespace;
    hostPort: number;
  }): Promise<readonly boolean[]> {
    const [out] = await ask(container, [{ protocol: "tcp", to: "192.0.2.2", port: 7000 }]);
    const [back] = await ask(this.lan, [{ protocol: "tcp", to: "192.0.2.1", port: hostPort }]);
    return [out === "lan sees 192.0.2.1", back === `${container.name} sees 192.0.2.2`];
  }

  async sources(zone = "trusted"): Promise<readonly string[]> {
    const listing = await this.firewalld.command("--zone", zone, "--list-sources");
    return listing.split(/\s+/u).filter((source) => source !== "");
  }

  /** Everything of the network's rules, in whatever order: firewalld's and ours. */
  rules(): readonly string[] {
    return this.runner.host.run("nft -s list ruleset").split("\n").sort();
  }

  async remove(): Promise<void> {
    for (const stop of this.#stops) stop();
    if (this.#netd) {
      const ended = new Promise((resolve) => this.#netd?.once("exit", resolve));
      this.#netd.kill("SIGKILL");
      await ended;
    }
    await this.firewalld.remove();
    this.lan.remove();
    this.runner.remove();
  }
}

let site: Site | undefined;
afterEach(async () => {
  await site?.remove();
  site = undefined;
});

function networkOf({ runner }: Site, rest: readonly JsonObject[]): NetworkList {
  const ipam = {
    type: "host-local",
    dataDir: runner.path("leases"),
    ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "fd00:1::/64" }]],
  };
  const bridge = { type: "bridge", bridge: "cni0", isDefaultGateway: true, ipMasq: true, ipam };
  return runner.list({ cniVersion: "1.0.0", name: "pods", plugins: [bridge, ...rest] });
}

const firewall = { type: "firewall", backend: "firewalld" };
const names = { type: "dns", capabilities: { aliases: true } };
const portmap = { type: "portmap", capabilities: { portMappings: true } };

testWith(
  ["firewalld"],
  "containers join its zone as by the Go plugin, and leave it with our DEL",
  async () => {
    site = await Site.open();
    const network = networkOf(site, [firewall, portmap]);
    const bare = await site.container(networkOf(site, [portmap]), { hostPort: 8079 });
    expect(await site.flows(bare)).toEqual([false, true]);

    const theirs = await site.container(network, { bin: goBin });
    expect(await site.sources()).toEqual([`${theirs.address}/32`, "fd00:1::3/128"]);
    const ours = await site.container(network, { hostPort: 8080 });
    const own = [`${ours.address}/32`, "fd00:1::4/128"];
    expect(await site.sources()).toEqual([`${theirs.address}/32`, "fd00:1::3/128", ...own]);
    expect(await site.flows(ours)).toEqual([true, true]);
    for (const each of [theirs, ours]) await site.runner.check(ourBin, network, each.target);

    // One that the operator has moved is not in order, and neither repeated nor in the way of what can be put right.
    await site.firewalld.command("--zone=trusted", `--remove-source=${own[0]}`);
    await expect(site.runner.check(ourBin, network, ours.target)).rejects.toThrow(
      `firewalld: ${own[0]} is not in zone "trusted"`,
    );
    site.netctl("repair");
    await site.runner.check(ourBin, network, ours.target);
    expect((await site.sources()).filter((source) => own.includes(source)).sort()).toEqual(own);
    await site.firewalld.command("--zone=public", `--change-source=${own[0]}`);
    await expect(site.runner.check(ourBin, network, ours.target)).rejects.toThrow(
      `firewalld: ${own[0]} is not in zone "trusted", but in "public"`,
    );

    await site.runner.del(ourBin, network, theirs.target);
    await site.runner.del(ourBin, network, ours.target);
    expect(await site.sources()).toEqual([]);
    expect(await site.sources("public")).toEqual([own[0]]);
  },
);

testWith(
  ["firewalld"],
  "without a backend it is the one in use while it runs, as for the Go plugin, and nftables else",
  async () => {
    site = await Site.open();
    const unnamed = networkOf(site, [{ type: "firewall" }, portmap]);
    const theirs = await site.container(unnamed, { bin: goBin });
    const ours = await site.container(unnamed, { hostPort: 8080 });
    const own = [`${ours.address}/32`, "fd00:1::3/128"];
    expect(await site.sources()).toEqual([`${theirs.address}/32`, "fd00:1::2/128", ...own]);
    expect(await site.flows(ours)).toEqual([true, true]);
    for (const each of [theirs, ours]) await site.runner.check(ourBin, unnamed, each.target);
    await site.runner.del(ourBin, unnamed, theirs.target);
    expect(await site.sources()).toEqual(own);

    await site.firewalld.stop();
    const later = await site.container(unnamed, { hostPort: 8081 });
    expect(site.runner.host.run("nft list set inet netctl admitted4")).toContain(later.address);
    expect(await site.flows(later)).toEqual([true, true]);
    await site.firewalld.start();
    // What was attached meanwhile is as it was made, until it is attached anew.
    await site.runner.check(ourBin, unnamed, later.target);
    for (const each of [ours, later]) await site.runner.del(ourBin, unnamed, each.target);
    expect(await site.sources()).toEqual([]);
    expect(site.runner.host.run("nft list set inet netctl admitted4")).not.toContain("10.1.0.");
  },
);

testWith(["firewalld"], "an address that another container has got by now stays in its zone", async () => {
  site = await Site.open();
  const network = networkOf(site, [firewall]);
  const gone = await site.container(network);
  rmSync(site.runner.path("leases"), { recursive: true });
  const next = await site.container(network);
  expect(next.address).toBe(gone.address);
  await site.runner.del(ourBin, network, gone.target);
  await site.runner.check(ourBin, network, next.target);
  await site.runner.del(ourBin, network, next.target);
  expect(await site.sources()).toEqual([]);
});

testWith(
  ["firewalld"],
  "after its reload, and after it was stopped and started, all is as before",
  async () => {
    site = await Site.open();
    await site.startNetd();
    const network = networkOf(site, [firewall, portmap, names]);
    const one = await site.container(network, { hostPort: 8080 });
    const two = await site.container(network, { hostPort: 8081 });
    const before = site.rules();
    const sources = await site.sources();
    expect(sources).toHaveLength(4);
    expect(await site.flows(one)).toEqual([true, true]);
    for (const how of ["--reload", "--complete-reload"]) {
      await site.firewalld.command(how);
      await expect.poll(() => site?.sources(), { timeout: 20_000 }).toEqual(sources);
      for (const each of [one, two]) {
        expect(await site.flows(each), how).toEqual([true, true]);
        await site.runner.check(ourBin, network, each.target);
      }
      expect(one.container.run("dig +short +tries=1 +time=20 @127.0.0.11 c8081").trim()).toBe(two.address);
      expect(site.rules()).toEqual(before);
    }

    await site.firewalld.stop();
    expect(await site.flows(one)).toEqual([true, true]);
    await expect(site.runner.check(ourBin, network, one.target)).rejects.toThrow("Cannot use firewalld");
    // It has nothing that could be missing.
    expect(site.netctl("repair", "--dry-run")).not.toContain("firewalld");
    await site.runner.del(ourBin, network, two.target);
    await site.firewalld.start();
    const left = sources.slice(0, 2);
    await expect.poll(() => site?.sources(), { timeout: 20_000 }).toEqual(left);
    expect(await site.flows(one)).toEqual([true, true]);
    await site.runner.check(ourBin, network, one.target);
    await site.runner.del(ourBin, network, one.target);
    expect(await site.sources()).toEqual([]);
    expect(site.log()).not.toMatch(/"cannot (put back|repair)/u);
  },
);

testWith(
  ["firewalld"],
  "its direct rules, whose reload empties iptables, take no published port with them",
  async () => {
    site = await Site.open();
    await site.startNetd();
    const insist = { backend: "iptables", insistOnBackend: true };
    const network = networkOf(site, [firewall, { ...portmap, ...insist }]);
    const one = await site.container(network, { hostPort: 8080 });
    const direct = ["ipv4", "filter", "FORWARD", "0", "-p", "tcp", "--dport", "9999", "-j", "DROP"];
    await site.firewalld.command("--permanent", "--direct", "--add-rule", ...direct);
    for (let round = 0; round < 2; round++) {
      await site.firewalld.command("--reload");
      await expect.poll(async () => site?.flows(one), { timeout: 20_000 }).toEqual([true, true]);
      const [, ...again] =
        site.runner.host.run("iptables -t nat -S").match(/^-A CNI-DN-\S+ .*--dport 8080 -j DNAT/gmu) ?? [];
      expect(again).toEqual([]);
      expect(site.runner.host.run("iptables -S FORWARD")).toContain("--dport 9999");
    }
    await site.runner.del(ourBin, network, one.target);
    expect(site.runner.host.run("iptables -t nat -S")).not.toContain("CNI-DN-");
    expect(await site.sources()).toEqual([]);
  },
);
