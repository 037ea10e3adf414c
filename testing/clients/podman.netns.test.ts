import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect } from "vitest";
import { ourBin } from "#testing/clients/chain-runner.ts";
import { hasFeature, testWith } from "#testing/requires.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { startServer } from "#testing/traffic.ts";
import { Podman } from "./podman.ts";

/** Long enough for a machine that is busy with other things: what is waited for comes in well under a second. */
const patient = { timeout: 60_000, interval: 100 };

describe("podman on its CNI back end runs containers on our executables", () => {
  let podman: Podman;
  let lan: TestNamespace;

  beforeAll(async () => {
    if (!hasFeature("podman")) return;
    podman = await Podman.start(ourBin);
    lan = TestNamespace.create("podman-lan");
    podman.host.run(`ip link add up0 type veth peer name eth0 netns ${lan.name}; ip link set up0 up
      ip addr add 192.0.2.1/24 dev up0; ip route add default via 192.0.2.2`);
    lan.run("ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0");
  });
  // After a test that has failed in the middle.
  afterEach(async () => void (await podman?.run("rm", "-f", "-t", "0", "-a")));
  afterAll(async () => {
    await podman?.stop();
    lan?.remove();
  });

  /** The page that a container serves, from a neighbour of the host; an empty text as long as there is none. */
  const pageFromLan = (port: number) =>
    lan.runAsync(`busybox timeout 5 busybox wget -qO- http://192.0.2.1:${port}/name || true`);
  const addressOf = async (container: string, network: string) =>
    await podman.run(
      "inspect",
      container,
      "-f",
      `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`,
    );
  const addressesIn = async (container: string) =>
    (await podman.run("exec", container, "ip", "-4", "-o", "addr", "show", "scope", "global"))
      .split("\n")
      .map((line) => /inet ([0-9.]+)/.exec(line)?.[1] ?? "")
      .sort();
  const journal = async () =>
    (await podman.inside("find", "/var/lib/netctl/journal", "-type", "f", "-not", "-path", "*/.trash/*"))
      .split("\n")
      .filter(Boolean)
      .map((path) => path.replace(/.*\/journal\//u, ""));
  const leases = async () =>
    (await podman.inside("find", "/var/lib/cni/networks", "-type", "f", "-name", "10.*"))
      .split("\n")
      .filter(Boolean);
  const elements = () => podman.host.run("nft list ruleset").match(/comment "[0-9a-f]{16} /g) ?? [];
  const links = () =>
    podman.host
      .json<{ ifname: string }>("ip -j link")
      .map(({ ifname }) => ifname)
      .sort();

  /** podman's own clean-up of a container may still be at work when podman has answered. */
  async function expectNothingLeft(bridges: readonly string[]): Promise<void> {
    await expect.poll(journal, patient).toEqual([]);
    await expect.poll(leases, patient).toEqual([]);
    await expect.poll(elements, patient).toEqual([]);
    await expect.poll(links, patient).toEqual([...bridges, "lo", "up0"].sort());
  }

  testWith(["podman"], "the default network: an address, a way out, a published port", async () => {
    await podman.serve("d", "-p", "8080:80");
    const address = await addressOf("d", "podman");
    expect(address).toMatch(/^10\.88\.0\.\d+$/);
    expect(await addressesIn("d")).toEqual([address]);
    expect((await journal()).map((name) => name.replace(/.*:/u, "")).sort()).toEqual([
      "bridge",
      "firewall",
      "portmap",
    ]);
    expect(await leases()).toEqual([expect.stringMatching(address)]);
    expect(elements().length).toBeGreaterThan(2);
    await expect.poll(() => pageFromLan(8080), patient).toBe("d\n");
    const stop = await startServer(lan, "lan", [7000]);
    try {
      expect(await podman.run("exec", "d", "nc", "192.0.2.2", "7000")).toBe("lan sees 192.0.2.1");
    } finally {
      stop();
    }
    await podman.run("rm", "-f", "-t", "0", "d");
    await expectNothingLeft(["cni-podman0"]);
  });

  testWith(
    ["podman"],
    "networks of its own: two at once, leave and join, a fixed address, a port twice",
    async () => {
      await podman.run("network", "create", "web");
      await podman.run("network", "create", "db", "--subnet", "10.90.0.0/24");
      await podman.serve("a", "--network", "web", "-p", "8080:80");
      await podman.serve("b", "--network", "web,db");
      const [web, webOfB, dbOfB] = await Promise.all([
        addressOf("a", "web"),
        addressOf("b", "web"),
        addressOf("b", "db"),
      ]);
      expect(dbOfB).toMatch(/^10\.90\.0\./);
      expect(await addressesIn("b")).toEqual([webOfB, dbOfB].sort());
      await expect
        .poll(() => podman.run("exec", "b", "timeout", "5", "wget", "-qO-", `http://${web}/name`), patient)
        .toBe("a");
      expect(await pageFromLan(8080)).toBe("a\n");

      await podman.run("network", "disconnect", "db", "b");
      expect(await addressesIn("b")).toEqual([webOfB]);
      await podman.run("network", "connect", "db", "b");
      expect(await addressesIn("b")).toEqual([webOfB, await addressOf("b", "db")].sort());

      const taken = podman.once(["--network", "web", "-p", "8080:80"], "true");
      await expect(taken).rejects.toThrow(/Cannot publish 0\.0\.0\.0:8080\/tcp: port is already allocated/);
      const fixed = ["--network", "db", "--ip", "10.90.0.77", "--mac-address", "02:00:00:00:00:77"];
      const shown = await podman.once(fixed, "ip", "addr", "show", "eth0");
      expect(shown).toContain("inet 10.90.0.77/24");
      expect(shown).toContain("02:00:00:00:00:77");

      await podman.run("rm", "-f", "-t", "0", "a", "b");
      await podman.run("network", "rm", "web", "db");
      await expectNothingLeft(links().filter((name) => name === "cni-podman0"));
    },
  );

  testWith(["podman"], "a list with dns in it gives its containers names", async () => {
    const list = {
      cniVersion: "0.4.0",
      name: "named",
      plugins: [
        {
          type: "bridge",
          bridge: "named0",
          isGateway: true,
          ipMasq: true,
          ipam: { type: "host-local", subnet: "10.91.0.0/24", routes: [{ dst: "0.0.0.0/0" }] },
        },
        { type: "dns", capabilities: { aliases: true, dns: true } },
      ],
    };
    writeFileSync(join(podman.confDirectory, "named.conflist"), JSON.stringify(list));
    await podman.serve("x", "--network", "named", "--network-alias", "shop");
    for (const name of ["x", "shop"]) {
      const ask = () =>
        podman.once(["--network", "named"], "timeout", "5", "wget", "-qO-", `http://${name}/name`);
      await expect.poll(ask, patient).toBe("x");
    }
    await podman.run("rm", "-f", "-t", "0", "x");
    await expectNothingLeft(links().filter((name) => name === "cni-podman0" || name === "named0"));
  });
});
