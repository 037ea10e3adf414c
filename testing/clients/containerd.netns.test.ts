import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestNamespace } from "#testing/test-namespace.ts";
import { Containerd } from "./containerd.ts";

const bin = join(import.meta.dirname, "../../dist/bin");

describe("containerd's own client runs containers on our executables", () => {
  let host: TestNamespace;
  let state: string;
  let containerd: Containerd;

  beforeAll(async () => {
    expect(existsSync(join(bin, "bridge")), "dist/bin/bridge: run npm run build").toBe(true);
    host = TestNamespace.create("containerd");
    state = mkdtempSync(join(tmpdir(), "netctl-state-"));
    containerd = await Containerd.start({
      host,
      bin,
      conflist: {
        cniVersion: "1.0.0",
        name: "pods",
        plugins: [
          {
            type: "bridge",
            bridge: "cni0",
            isGateway: true,
            ipMasq: true,
            ipam: {
              type: "host-local",
              dataDir: join(state, "leases"),
              ranges: [[{ subnet: "10.88.0.0/24" }]],
              routes: [{ dst: "0.0.0.0/0" }],
            },
          },
        ],
      },
      environment: {
        NETCTL_STATE_DIR: join(state, "state"),
        NETCTL_RUN_DIR: join(state, "run"),
        NETCTL_STANDALONE: "1",
      },
    });
  });

  afterAll(async () => {
    await containerd?.stop();
    host?.remove();
    rmSync(state, { recursive: true, force: true });
  });

  const leases = () => {
    const directory = join(state, "leases/pods");
    return existsSync(directory) ? readdirSync(directory).filter((name) => name.startsWith("10.88.")) : [];
  };
  const hostLinks = () =>
    host
      .run("ip -br link")
      .trim()
      .split("\n")
      .map((line) => line.split(/[\s@]/)[0]);
  const elements = () => host.run("nft list set inet netctl masquerade4").match(/10\.88\.\d+\.\d+/g) ?? [];

  it("two containers ping each other and the gateway, and nothing is left afterwards", async () => {
    const first = containerd.runContainer("first", "sh", "-c", "trap 'exit 0' TERM; sleep 60 & wait");
    for (let tries = 0; leases().length === 0 || hostLinks().length < 3; tries++) {
      expect(tries, "the first container has no address after 30 s").toBeLessThan(300);
      await sleep(100);
    }
    expect(leases()).toEqual(["10.88.0.2"]);
    expect(elements()).toEqual(["10.88.0.2"]);

    // Found by the client's name for it, though no directory of that daemon is where daemons have theirs.
    const netctl = join(bin, "netctl");
    const shown = JSON.parse(
      host.run(
        `NETCTL_STATE_DIR=${state}/state NETCTL_CONF_DIR=${state}/none ${netctl} inspect first --json`,
      ),
    );
    expect(shown.namespaces).toMatchObject([
      { kind: "container", name: "first", containers: [{ runtime: "containerd", id: "first" }] },
    ]);
    expect(shown.namespaces[0].links).toContainEqual(
      expect.objectContaining({
        name: "eth0",
        network: "pods",
        addresses: expect.arrayContaining(["10.88.0.2/24"]),
      }),
    );

    const script = "ip -4 -o addr show eth0; ping -c 1 -W 5 10.88.0.2 && ping -c 1 -W 5 10.88.0.1";
    const printed = await containerd.runContainer("second", "sh", "-c", script);
    expect(printed).toContain("10.88.0.3/24");
    expect(printed.match(/ 0% packet loss/g)).toHaveLength(2);

    await containerd.ctr("task", "kill", "--signal", "SIGTERM", "first");
    await first;
    expect(leases()).toEqual([]);
    expect(elements()).toEqual([]);
    expect(new Set(hostLinks())).toEqual(new Set(["cni0", "lo"]));
    const records = readdirSync(join(state, "state/journal/pods")).filter((name) => !name.startsWith("."));
    expect(records).toEqual([]);
  });
});
