import { randomUUID } from "node:crypto";
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
    // runc's state is one for all daemons of a machine.
    const id = `first-${randomUUID().slice(0, 8)}`;
    const first = containerd.runContainer(id, "sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait");
    const ready = async () => {
      while (leases().length === 0 || hostLinks().length < 3) await sleep(100);
    };
    // What ends before has failed, and says why.
    await Promise.race([ready(), first]);
    const [address = ""] = leases();
    expect(leases()).toEqual([expect.stringMatching(/^10\.88\.0\.\d+$/)]);
    expect(elements()).toEqual([address]);

    // Found by the client's name for it, though no directory of that daemon is where daemons have theirs.
    const netctl = join(bin, "netctl");
    const shown = JSON.parse(
      host.run(
        `NETCTL_STATE_DIR=${state}/state NETCTL_CONF_DIR=${state}/none ${netctl} inspect ${id} --json`,
      ),
    );
    expect(shown.namespaces).toMatchObject([
      { kind: "container", name: id, containers: [{ runtime: "containerd", id }] },
    ]);
    expect(shown.namespaces[0].links).toContainEqual(
      expect.objectContaining({
        name: "eth0",
        network: "pods",
        addresses: expect.arrayContaining([`${address}/24`]),
      }),
    );

    const script = `ip -4 -o addr show eth0; ping -c 1 -W 10 ${address} && ping -c 1 -W 10 10.88.0.1`;
    const printed = await containerd.runContainer(id.replace("first", "second"), "sh", "-c", script);
    expect(printed).toMatch(/10\.88\.0\.\d+\/24/);
    expect(printed.match(/ 0% packet loss/g)).toHaveLength(2);

    await containerd.ctr("task", "kill", "--signal", "SIGTERM", id);
    await first;
    expect(leases()).toEqual([]);
    expect(elements()).toEqual([]);
    expect(new Set(hostLinks())).toEqual(new Set(["cni0", "lo"]));
    const records = readdirSync(join(state, "state/journal/pods")).filter((name) => !name.startsWith("."));
    expect(records).toEqual([]);
  });
});
