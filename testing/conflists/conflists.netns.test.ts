import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { NetworkList } from "#cni/conflist.ts";
import type { CniResult } from "#cni/result.ts";
import { atLeast } from "#cni/version.ts";
import { formatIp } from "#net/ip.ts";
import { ConfDirectory } from "#runtime/conf-dir.ts";
import { ChainRunner, ourBin, targetOf } from "#testing/clients/chain-runner.ts";
import { isAnswered } from "#testing/echo.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { ask, startServer } from "#testing/traffic.ts";
import { foreignTypes, writeStandIns } from "./stand-ins.ts";

const files = readdirSync(import.meta.dirname).filter((name) => name.endsWith(".conflist"));

/** What a kubelet, or podman, gives for the capabilities. */
const capabilities = {
  portMappings: [
    { HostPort: 8080, ContainerPort: 7000, Protocol: "tcp", HostIP: "" },
    { hostPort: 8053, containerPort: 7000, protocol: "udp" },
  ],
  bandwidth: { ingressRate: 80_000_000, ingressBurst: 8_000_000, egressRate: 0, egressBurst: 0 },
};

let host: ChainRunner;
let outside: TestNamespace;
let stops: (() => void)[] = [];

beforeEach(() => {
  host = new ChainRunner("conflist");
  outside = TestNamespace.create("conflist-outside");
  host.host.run(
    `ip link add up0 type veth peer name eth0 netns ${outside.name}; ip link set up0 up; ip addr add 192.0.2.1/24 dev up0`,
  );
  outside.run("ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0");
});
afterEach(() => {
  for (const stop of stops) stop();
  stops = [];
  host.remove();
  outside.remove();
});

/** The list as it stands in a configuration directory, with its leases in a directory of the test. */
async function load(file: string): Promise<NetworkList> {
  const directory = host.path("net.d");
  mkdirSync(directory);
  const text = readFileSync(join(import.meta.dirname, file), "utf8");
  writeFileSync(
    join(directory, `10-${file}`),
    text.replaceAll(/"dataDir": "[^"]*"/g, `"dataDir": "${host.path("leases")}"`),
  );
  const { networks, problems } = await new ConfDirectory(directory).load();
  // It has addresses in it that are looked for afterwards.
  rmSync(directory, { recursive: true });
  expect(problems).toEqual([]);
  const [network] = networks;
  if (!network) throw new Error(`${file} was not loaded`);
  return network.list;
}

const has = (list: NetworkList, type: string) => list.plugins.some((plugin) => plugin.type === type);
const isForeign = (type: string) => (foreignTypes as readonly string[]).includes(type);
/** As a runtime of today may run it: with STATUS and GC. */
const newest = (list: NetworkList): NetworkList => ({ ...list, cniVersion: "1.1.0" });

function ownAddresses({ interfaces, ips }: CniResult): readonly string[] {
  const index = interfaces.findIndex(({ name, sandbox }) => name === "eth0" && sandbox);
  return ips.flatMap((ip) =>
    ip.interface === undefined || ip.interface === index ? [formatIp(ip.address.address)] : [],
  );
}

describe.each(files)("%s", (file) => {
  test("names no plugin that is neither ours nor the project's own", async () => {
    const list = await load(file);
    const ours = new Set(readdirSync(ourBin));
    const unknown = list.plugins.filter(({ type }) => !ours.has(type) && !isForeign(type));
    expect(unknown.map(({ type }) => type)).toEqual([]);
  });

  test("attaches two containers that reach each other, publishes ports, and leaves nothing", async () => {
    const list = await load(file);
    const bins = [writeStandIns(host.directory), ourBin];
    const [one, two] = [host.container(), host.container()];
    await host.status(bins, newest(list));
    const targets = [targetOf(one, capabilities), targetOf(two)];
    const results: CniResult[] = [];
    for (const target of targets) results.push(await host.add(bins, list, target));
    const [first = [], second = []] = results.map(ownAddresses);
    expect(first.length).toBeGreaterThan(0);
    for (const address of second) {
      expect(isAnswered(one, address), address).toBe(true);
    }
    if (has(list, "portmap")) {
      stops.push(await startServer(one, "one", [7000]));
      const question = { to: "192.0.2.1", port: 8080 } as const;
      const questions = [
        { ...question, protocol: "tcp" },
        { ...question, protocol: "udp", port: 8053 },
      ] as const;
      const answers = ["one sees 192.0.2.2", "one sees 192.0.2.2"];
      expect(await ask(outside, questions)).toEqual(answers);
    }
    if (has(list, "bandwidth")) expect(host.host.run("tc qdisc show")).toMatch(/tbf .*rate 80Mbit/);
    if (!list.disableCheck && atLeast(list.cniVersion, "0.4.0") && !has(list, "flannel"))
      for (const target of targets) await host.check(bins, list, target);
    for (const target of targets) {
      await host.del(bins, list, target);
      await host.del(bins, list, { ...target, netns: "" });
    }
    expect(host.traces([one.name, two.name, ...first, ...second])).toEqual([]);
    for (const container of [one, two]) expect(container.run("ip -o link")).not.toContain("eth0");
  });

  test("GC takes what its runtime knows of no more, and leaves the others as they are", async () => {
    const list = await load(file);
    const bins = [writeStandIns(host.directory), ourBin];
    const [lost, kept] = [host.container(), host.container()];
    await host.add(bins, list, targetOf(lost, capabilities));
    const stays = ownAddresses(await host.add(bins, list, targetOf(kept)));
    // Ours needs no more than the list of those that are alive; the projects' own have nothing but the runtime's notes.
    const needsNotes = list.plugins.some(({ type }) => isForeign(type));
    if (!needsNotes) host.forgetResults();
    await host.gc(bins, needsNotes ? list : newest(list), [targetOf(kept)]);
    expect(host.traces([lost.name])).toEqual([]);
    expect(lost.run("ip -o link")).not.toContain("eth0");
    const from = has(list, "macvlan") ? outside : host.host;
    for (const address of stays) expect(isAnswered(from, address), address).toBe(true);
    await host.del(bins, list, targetOf(kept));
    expect(host.traces([kept.name, ...stays])).toEqual([]);
  });
});
