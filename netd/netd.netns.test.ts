import {
  copyFileSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  type BuiltService,
  buildService,
  exitCodeOf,
  NetdLab,
  readProcess,
  type ServedCall,
  type ServiceCall,
} from "#testing/netd-lab.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";

let service: BuiltService;
let lab: NetdLab;
let container: TestNamespace;
beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());
beforeEach(() => {
  lab = new NetdLab(service);
  container = lab.namespace();
});
afterEach(async () => {
  await lab.remove();
});

const ok = { exitCode: 0 };
const byNetd = { by: ["netd"] };
const byItself = { by: ["standalone"] };
const errorOf = ({ stdout }: ServedCall) => JSON.parse(stdout) as { code: number; msg: string };

describe("what netd answers", () => {
  const prevResultOf = ({ stdout }: ServedCall) => JSON.parse(stdout) as unknown;

  /** Every verb once, and what can be wrong with one. */
  async function everything(environment: Readonly<Record<string, string>>): Promise<ServedCall[]> {
    const config = lab.config({
      isGateway: true,
      ipMasq: true,
      ipam: { type: "static", addresses: [{ address: "10.1.0.7/24" }] },
    });
    const call = (verb: string, more: ServiceCall = {}) =>
      lab.call(verb, { netns: container.path, config, environment, ...more });
    const added = await call("ADD");
    const prevResult = prevResultOf(added);
    const calls = [
      added,
      await call("CHECK", { config: { ...config, prevResult } }),
      await call("CHECK"),
      await call("ADD"),
      await call("ADD", { containerId: "c2" }),
      await call("STATUS"),
      await call("GC", { config: { ...config, "cni.dev/valid-attachments": [] } }),
      await call("CHECK", { config: { ...config, prevResult } }),
      await call("DEL"),
      await call("DEL", { netns: "" }),
      await call("ADD", { config: "{" }),
      await call("ADD", { config: { ...config, cniVersion: "9.9.9" } }),
      await call("ADD", { config: { ...config, mtu: "large" } }),
      await call("ADD", { netns: "/run/netns/no-such" }),
      await call("ADD", { containerId: "" }),
      await call("DO"),
      await call("STATUS", { plugin: "host-local", config: lab.config() }),
      await call("ADD", { plugin: "loopback" }),
    ];
    await call("DEL", { plugin: "loopback" });
    return calls;
  }

  test("is what a process of its own prints, for every verb and every error", async () => {
    const masked = (calls: readonly ServedCall[]) =>
      calls.map(({ exitCode, stdout }) => ({ exitCode, stdout: stdout.replaceAll(/(..:){5}../g, "MAC") }));
    const alone = await everything({ NETCTL_STANDALONE: "1" });
    await lab.startNetd();
    const served = await everything({});
    expect(masked(served)).toEqual(masked(alone));
    expect(served.map(({ exitCode }) => exitCode)).toEqual([
      0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0,
    ]);
    expect(new Set(served.map(({ by }) => by.join()))).toEqual(new Set(["netd"]));
    expect(lab.remains()).toEqual([]);
  });

  test("is the stored result, where an ADD is repeated", async () => {
    await lab.startNetd();
    const first = await lab.call("ADD", { netns: container.path });
    const second = await lab.call("ADD", { netns: container.path });
    expect(second).toMatchObject({ ...byNetd, ...ok, stdout: first.stdout });
  });
});

describe("started on demand", () => {
  const onDemand = { NETCTL_NETD: "", NETCTL_IDLE_EXIT_SECONDS: "60" };

  test("the first call does its work itself, later ones are served", async () => {
    const call = { netns: container.path, environment: onDemand };
    expect(await lab.call("ADD", call)).toMatchObject({ ...ok, ...byItself });
    const pid = await lab.servicePid();
    expect(await lab.call("DEL", call)).toMatchObject({ ...ok, ...byNetd });
    expect(lab.netds()).toEqual([pid]);
    expect(statSync(lab.socketPath()).mode & 0o777).toBe(0o600);
    expect(statSync(lab.path("run")).mode & 0o777).toBe(0o700);
  });

  test("it holds nothing of the call that started it", async () => {
    const environment = { ...onDemand, SECRET: "x" };
    await lab.call("ADD", { netns: container.path, environment });
    const pid = String(await lab.servicePid());
    const stat = readProcess(pid, "stat").split(") ")[1]?.split(" ") ?? [];
    const [, parent, group, session] = stat;
    expect([group, session].every((each) => each !== stat[1])).toBe(true);
    expect(parent).toBe("1");
    for (const fd of [0, 1, 2]) expect(readlinkSync(`/proc/${pid}/fd/${fd}`)).toBe("/dev/null");
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/");
    const names = readProcess(pid, "environ")
      .split("\0")
      .map((entry) => entry.split("=")[0] ?? "");
    expect(names.filter((name) => name !== "" && name !== "PATH" && !name.startsWith("NETCTL_"))).toEqual([]);
  });

  test("of thirty calls at once one starts it", async () => {
    const containers = Array.from({ length: 30 }, () => lab.namespace());
    const calls = containers.map(({ path, name }) =>
      lab.call("ADD", { containerId: name, netns: path, environment: onDemand }),
    );
    for (const call of await Promise.all(calls)) expect(call).toMatchObject(ok);
    const pid = await lab.servicePid();
    expect(lab.netds()).toEqual([pid]);
    const addresses = containers.map(
      (each) =>
        each.json<{ addr_info: { local: string }[] }>("ip -4 -j addr show eth0")[0]?.addr_info[0]?.local,
    );
    expect(new Set(addresses).size).toBe(30);
  });

  test("it ends when nothing was asked for a while, and is started again", async () => {
    const environment = { ...onDemand, NETCTL_IDLE_EXIT_SECONDS: "1" };
    const pids = () => [...lab.log().matchAll(/"pid":(\d+),"path"/g)].map(([, pid]) => Number(pid));
    await lab.call("STATUS", { environment });
    await lab.logged('"reason":"idle"');
    // The kernel may be at taking the old one's descriptors away, and with them the lock.
    while (pids().length < 2) await lab.call("STATUS", { environment });
  });

  test("it goes where it is told in the tree of cgroups", async () => {
    await lab.call("STATUS", { environment: { ...onDemand, NETCTL_NETD_CGROUP: lab.path("cgroup") } });
    await lab.file("cgroup/cgroup.procs");
    expect(readFileSync(lab.path("cgroup/cgroup.procs"), "utf8")).toBe(`${await lab.servicePid()}\n`);
  });

  test("where it can't go there it serves all the same", async () => {
    writeFileSync(lab.path("file"), "");
    await lab.call("STATUS", { environment: { ...onDemand, NETCTL_NETD_CGROUP: lab.path("file/x") } });
    await lab.logged("ENOTDIR");
    await lab.untilServed();
  });
});

describe("its end", () => {
  test("SIGTERM lets running requests end, and new ones are carried out by their callers", async () => {
    const netd = await lab.startNetd();
    const waiting = await lab.startWaiting({ netns: container.path });
    netd.kill("SIGTERM");
    await lab.logged('"stopping"');
    const other = lab.namespace();
    expect(await lab.call("ADD", { containerId: "c2", netns: other.path })).toMatchObject({
      ...ok,
      ...byItself,
    });
    lab.openGate();
    expect(await waiting.ended).toMatchObject({ ...ok, ...byNetd });
    expect(await exitCodeOf(netd)).toBe(0);
    expect(() => statSync(lab.socketPath())).toThrow("ENOENT");
  });

  test("kill -9 in the middle: the caller carries on by itself, and the next call too", async () => {
    const netd = await lab.startNetd();
    const waiting = await lab.startWaiting({ netns: container.path });
    netd.kill("SIGKILL");
    lab.openGate();
    expect(await waiting.ended).toMatchObject({ ...ok, by: ["netd", "standalone"] });
    expect(lab.links(container)).toContain("eth0");
    const config = lab.config({ ipam: { type: "waiting" } });
    expect(await lab.call("DEL", { netns: container.path, config })).toMatchObject({ ...ok, ...byItself });
    expect(lab.remains()).toEqual([]);
    // The socket file of the one that was killed is still there.
    await lab.startNetd();
    await lab.untilServed();
  });

  test("it ends when nobody can find it any more", async () => {
    const netd = await lab.startNetd();
    rmSync(lab.socketPath());
    expect(await exitCodeOf(netd)).toBe(0);
    expect(lab.log()).toContain("the socket was taken away");
  });

  test.each(["netd.cjs", "netd.js"])("it ends when another version of %s is installed", async (file) => {
    for (const name of ["netd.cjs", "native.node"]) copyFileSync(join(service.lib, name), lab.path(name));
    writeFileSync(lab.path("netd.js"), "");
    const netd = await lab.startNetd({ program: lab.path("netd.cjs") });
    const later = new Date(Date.now() + 1000);
    utimesSync(lab.path(file), later, later);
    expect(await exitCodeOf(netd)).toBe(0);
    expect(lab.log()).toContain("another version was installed");
  });

  test("a second one beside it ends at once", async () => {
    const netd = await lab.startNetd();
    expect(await exitCodeOf(lab.spawnNetd())).toBe(0);
    expect(lab.log()).toContain("another netd serves this network namespace");
    expect(lab.netds()).toEqual([netd.pid]);
  });
});

describe("a request that is in the way of another", () => {
  test("requests for different attachments run at the same time", async () => {
    await lab.startNetd();
    const others = [lab.namespace(), lab.namespace()];
    const waiting = [
      await lab.startWaiting({ containerId: "a", netns: others[0]?.path ?? "" }),
      await lab.startWaiting({ containerId: "b", netns: others[1]?.path ?? "" }),
    ];
    expect(await lab.call("ADD", { netns: container.path })).toMatchObject({ ...ok, ...byNetd });
    lab.openGate();
    for (const each of waiting) expect(await each.ended).toMatchObject({ ...ok, ...byNetd });
  });

  test("a DEL cancels the ADD of its attachment, and wins", async () => {
    await lab.startNetd();
    const config = lab.config({ ipam: { type: "waiting" } });
    const waiting = await lab.startWaiting({ netns: container.path });
    const deleted = await lab.call("DEL", { netns: container.path, config });
    expect(deleted).toMatchObject({ ...ok, ...byNetd, stdout: "" });
    const added = await waiting.ended;
    expect(added.exitCode).toBe(1);
    expect(errorOf(added).code).toBe(11);
    expect(lab.links(container)).toEqual(["lo"]);
    expect(lab.remains()).toEqual([]);
    await lab.file("gate/released-c1");
  });

  test("whenever a DEL meets an ADD, the next ADD and DEL find a clean place", async () => {
    await lab.startNetd();
    const call = { netns: container.path };
    for (let round = 0; round < 100; round++) {
      const adding = lab.call("ADD", call);
      await sleep(Math.random() * 12);
      expect(await lab.call("DEL", call)).toMatchObject({ ...ok, ...byNetd });
      const added = await adding;
      // The DEL came too early, too late, or in the middle.
      const attached = lab.links(container).includes("eth0");
      if (added.exitCode !== 0)
        expect({ code: errorOf(added).code, attached }).toEqual({ code: 11, attached: false });
      expect(lab.remains().length > 0).toBe(attached);
      if (attached) expect(await lab.call("DEL", call)).toMatchObject(ok);
      expect(lab.links(container)).toEqual(["lo"]);
      expect(lab.remains()).toEqual([]);
    }
  });

  test("the ADD of a caller that is killed is taken back", async () => {
    await lab.startNetd();
    const waiting = await lab.startWaiting({ netns: container.path });
    expect(lab.remains()).toEqual(["c1:eth0:bridge"]);
    waiting.child.kill("SIGKILL");
    await lab.file("gate/released-c1");
    while (lab.remains().length > 0) await sleep(5);
    expect(lab.links(container)).toEqual(["lo"]);
    expect(await lab.call("ADD", { netns: container.path })).toMatchObject({ ...ok, ...byNetd });
  });

  test("a foreign plugin that calls one of ours does not wait for itself", async () => {
    await lab.startNetd();
    // Of the same name as ours, and found first: it is executed, and asks netd in its turn.
    const wrapper = `#!/bin/sh\nexec ${service.bin}/host-local\n`;
    mkdirSync(lab.path("wrapped"));
    writeFileSync(lab.path("wrapped/host-local"), wrapper, { mode: 0o755 });
    const environment = { CNI_PATH: `${lab.path("wrapped")}:${lab.environment["CNI_PATH"] ?? ""}` };
    for (const verb of ["ADD", "DEL"]) {
      expect(await lab.call(verb, { netns: container.path, environment })).toMatchObject({
        ...ok,
        ...byNetd,
      });
    }
  });

  test("plugins that netd starts get no descriptor of its own", async () => {
    await lab.call("STATUS", { environment: { NETCTL_NETD: "" } });
    await lab.servicePid();
    const waiting = await lab.startWaiting({ netns: container.path });
    lab.openGate();
    expect(await waiting.ended).toMatchObject({ ...ok, ...byNetd });
    const fds = readFileSync(lab.path("gate/fds"), "utf8")
      .split("\n")
      .filter((line) => line.includes("->"));
    // Its three streams, the redirection, and /proc itself.
    expect(
      fds.map((line) => line.split(" -> ")[1]).filter((to) => !/^(socket|pipe|\/proc|\/tmp)/.test(to ?? "")),
    ).toEqual([]);
    expect(fds.join()).not.toContain(".lock");
    expect(fds.length).toBeLessThanOrEqual(4);
  });
});

describe("netd that is stopped (SIGSTOP)", () => {
  /** As a launcher is outside of tests. */
  const impatient = { NETCTL_ACCEPT_TIMEOUT_MS: "" };

  test("before it has accepted: the caller goes on alone, and netd later leaves alone what is there", async () => {
    const netd = await lab.startNetd();
    await lab.call("ADD", { netns: container.path });
    netd.kill("SIGSTOP");
    const call = { netns: container.path, environment: impatient };
    expect(await lab.call("DEL", call)).toMatchObject({ ...ok, ...byItself });
    expect(await lab.call("ADD", call)).toMatchObject({ ...ok, ...byItself });
    netd.kill("SIGCONT");
    // The DEL above is still in netd's queue, before this.
    await lab.untilServed();
    expect(lab.links(container)).toContain("eth0");
    expect(lab.remains()).not.toEqual([]);
  });

  test("after it has accepted: code 11 at the deadline, and it takes the ADD back when it wakes", async () => {
    const netd = await lab.startNetd();
    const environment = { NETCTL_STOP_AT: "netd/veth-made", NETCTL_TIMEOUT_MS: "700" };
    const added = await lab.call("ADD", { netns: container.path, environment });
    expect(added.exitCode).toBe(1);
    expect(errorOf(added)).toMatchObject({
      code: 11,
      msg: "Cannot get an answer from netd within the deadline (NETCTL_TIMEOUT_MS): try again later",
    });
    expect(await lab.call("STATUS", { environment: impatient })).toMatchObject({ ...ok, ...byItself });
    netd.kill("SIGCONT");
    while (lab.remains().length > 0) await sleep(5);
    expect(lab.links(container)).toEqual(["lo"]);
  });
});

describe("a caller that is somewhere else", () => {
  test("in another network namespace has a netd of its own, in the same run directory", async () => {
    const second = lab.namespace("netd-host");
    const other = lab.namespace();
    const netds = [await lab.startNetd(), await lab.startNetd({ host: second })];
    expect(await lab.call("ADD", { netns: container.path })).toMatchObject({ ...ok, ...byNetd });
    expect(await lab.call("ADD", { containerId: "c2", netns: other.path, host: second })).toMatchObject({
      ...ok,
      ...byNetd,
    });
    expect(lab.netds()).toHaveLength(2);
    const veths = (host: TestNamespace) => lab.links(host).filter((name) => name.startsWith("veth"));
    expect([veths(lab.host).length, veths(second).length]).toEqual([1, 1]);
    netds[0]?.kill("SIGKILL");
    expect(await lab.call("DEL", { netns: container.path })).toMatchObject({ ...ok, ...byItself });
    expect(await lab.call("DEL", { containerId: "c2", host: second })).toMatchObject({ ...ok, ...byNetd });
    expect([veths(lab.host), veths(second)]).toEqual([[], []]);
  });

  test("what crashed on another host is cleaned up by that one's netd, not by its neighbour's", async () => {
    const environment = { NETCTL_STANDALONE: "1", NETCTL_CRASH_AT: "standalone/veth-made" };
    await lab.call("ADD", { netns: container.path, environment });
    const before = lab.remains();
    expect(before).not.toEqual([]);
    await lab.startNetd({ host: lab.namespace("netd-host") });
    expect(lab.remains()).toEqual(before);
    await lab.startNetd();
    expect(lab.remains()).toEqual([]);
  });

  test.each<[string, ServiceCall]>([
    ["another mount namespace", { through: ["unshare", "--mount"] }],
    ["other directories", { environment: { NETCTL_CONF_DIR: "/elsewhere" } }],
    ["a path that only it has", { environment: { CNI_PATH: "bin:/opt/cni/bin" } }],
  ])("with %s does the work itself", async (_, call) => {
    await lab.startNetd();
    expect(await lab.call("STATUS", { ...call, config: lab.config({ ipam: {} }) })).toMatchObject({
      ...ok,
      ...byItself,
    });
    await lab.untilServed();
  });
});

describe("where things are not as they should be", () => {
  test("a run directory that can't be made keeps an ADD from being safe, not a DEL from being tried", async () => {
    await lab.call("ADD", { netns: container.path });
    const environment = { NETCTL_RUN_DIR: "/proc/no-such", NETCTL_NETD: "" };
    const other = lab.namespace();
    const added = await lab.call("ADD", { containerId: "c2", netns: other.path, environment });
    expect(errorOf(added).code).toBe(5);
    expect(await lab.call("DEL", { netns: container.path, environment })).toMatchObject({
      ...ok,
      ...byItself,
    });
    expect(lab.remains()).toEqual([]);
  });

  test("an uncaught fault is the answer of the request that it happened in; others end; netd starts anew", async () => {
    const inject = lab.path("inject.cjs");
    writeFileSync(inject, 'process.on("SIGUSR2", () => { throw new Error("made up"); });');
    const netd = await lab.startNetd({ nodeOptions: ["--require", inject] });
    const waiting = await lab.startWaiting({ netns: container.path });
    netd.kill("SIGUSR2");
    const added = await waiting.ended;
    expect(added).toMatchObject({ exitCode: 1, ...byNetd });
    expect(errorOf(added)).toMatchObject({ code: 999, msg: "made up" });
    expect(await exitCodeOf(netd)).toBe(1);
    lab.openGate();
    await lab.startNetd();
    expect(lab.log()).toContain("cleaned up after a crash");
    expect(lab.remains()).toEqual([]);
    expect(await lab.call("ADD", { netns: container.path })).toMatchObject({ ...ok, ...byNetd });
  });

  test("what a crash left is cleaned up before netd serves", async () => {
    const environment = { NETCTL_STANDALONE: "1", NETCTL_CRASH_AT: "standalone/veth-made" };
    expect(await lab.call("ADD", { netns: container.path, environment })).toMatchObject({
      signal: "SIGKILL",
    });
    expect(lab.remains()).not.toEqual([]);
    await lab.startNetd();
    expect(lab.remains()).toEqual([]);
    expect(lab.links(container)).toEqual(["lo"]);
  });
});
