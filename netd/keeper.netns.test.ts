import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type BuiltService, buildService, NetdLab } from "#testing/netd-lab.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { ask, startServer } from "#testing/traffic.ts";

let service: BuiltService;
let lab: NetdLab;
let lan: TestNamespace;
let container: TestNamespace;
let stop: () => void;

beforeAll(async () => {
  service = await buildService();
});
afterAll(() => service.remove());

beforeEach(async () => {
  lab = new NetdLab(service);
  lan = lab.namespace("lan");
  container = lab.namespace();
  lab.host.run(
    `ip link add up0 type veth peer name eth0 netns ${lan.name}; ip link set up0 up; ip addr add 192.0.2.1/24 dev up0`,
  );
  lan.run("ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0");
  stop = await startServer(container, "target", [80]);
});
afterEach(async () => {
  stop();
  await lab.remove();
});

const question = { protocol: "tcp", to: "192.0.2.1", port: 8080 } as const;

/** bridge, then portmap: 8080 of the host leads to the container's 80. */
async function publish(): Promise<void> {
  const config = lab.config({ isGateway: true, isDefaultGateway: true, ipMasq: true });
  const added = await lab.call("ADD", { netns: container.path, config });
  expect(added.exitCode, added.stdout).toBe(0);
  const mapped = await lab.call("ADD", {
    plugin: "portmap",
    netns: container.path,
    config: {
      cniVersion: "1.1.0",
      name: "net1",
      type: "portmap",
      runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] },
      prevResult: JSON.parse(added.stdout) as unknown,
    },
  });
  expect(mapped.exitCode, mapped.stdout).toBe(0);
}

async function untilReached(): Promise<void> {
  for (;;) {
    const [answer] = await ask(lan, [question]);
    if (answer === "target sees 192.0.2.2") return;
  }
}

describe("while netd runs", () => {
  test.each([
    ["nft flush ruleset"],
    ["nft delete table inet netctl"],
    ["nft flush table inet netctl"],
    ["nft flush map inet netctl ports4"],
  ])("traffic flows again after %s", async (command) => {
    await lab.startNetd();
    await publish();
    await untilReached();
    lab.host.run(command);
    await untilReached();
    // Again and again.
    lab.host.run(command);
    await untilReached();
    expect(lab.log()).toContain("somebody has taken rules away");
  });

  test("traffic flows again where the kernel had more to tell than could be kept", async () => {
    await lab.startNetd();
    await publish();
    await untilReached();
    const pid = await lab.servicePid();
    process.kill(pid, "SIGSTOP");
    try {
      const elements = Array.from({ length: 4000 }, (_, at) => `10.200.${at >> 8}.${at & 255}`).join();
      const script = `add table inet mine; add set inet mine s { type ipv4_addr; }; add element inet mine s { ${elements} }; delete table inet mine`;
      for (let round = 0; round < 5; round++) lab.host.run(`echo '${script}' | tr ';' '\\n' | nft -f -`);
      lab.host.run("nft flush ruleset");
    } finally {
      process.kill(pid, "SIGCONT");
    }
    await untilReached();
  });

  test("ADD and DEL wake nothing", async () => {
    await lab.startNetd({ environment: { NETCTL_LOG_LEVEL: "debug" } });
    await publish();
    // The first ADD has had nft load the rules; the kernel tells in order, so that is over when this has been noticed.
    lab.host.run("nft flush map inet netctl ports4");
    await lab.logged("they are back");
    const looks = () => lab.log().split("the ruleset was changed").length;
    const before = looks();
    for (let round = 0; round < 5; round++) {
      const other = lab.namespace();
      const call = { netns: other.path, containerId: `c${round}x`, config: lab.config({ ipMasq: true }) };
      expect(await lab.call("ADD", call)).toMatchObject({ exitCode: 0, by: ["netd"] });
      expect(await lab.call("DEL", call)).toMatchObject({ exitCode: 0, by: ["netd"] });
    }
    expect(looks()).toBe(before);
  });
});

describe("what was taken away while no netd ran", () => {
  test("is back when one starts", async () => {
    await publish();
    lab.host.run("nft flush ruleset");
    await lab.startNetd();
    await untilReached();
  });
});

describe("a netd that ends when it is idle", () => {
  test("stays as long as there are attachments", async () => {
    await publish();
    await lab.startNetd({ environment: { NETCTL_IDLE_EXIT_SECONDS: "1" } });
    const pid = await lab.servicePid();
    lab.host.run("nft flush ruleset");
    await untilReached();
    for (const plugin of ["portmap", "bridge"]) {
      await lab.call("DEL", { plugin, netns: container.path });
    }
    await lab.logged('"reason":"idle"');
    expect(lab.log()).toContain(`"pid":${pid}`);
  });
});
