import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { type BundledChild, bundleChild } from "#testing/bundled-child.ts";
import { LeaseStore } from "./lease-store.ts";
import { completeRangeSet } from "./range.ts";

let dataDir: string;
let child: BundledChild;
beforeAll(async () => {
  child = await bundleChild(`
    import { LeaseStore } from "#ipam/lease-store.ts";
    import { completeRangeSet } from "#ipam/range.ts";
    import { parseCidr } from "#net/cidr.ts";
    const { dataDir, prefix } = JSON.parse(process.argv[2]);
    const sets = ["10.1.0.0/25", "fd00::/64"].map((subnet) => completeRangeSet([{ subnet: parseCidr(subnet) }]));
    async function main() {
      const store = new LeaseStore({ dataDir, network: "net1", bootId: "boot" });
      for (let index = 0; ; index++) {
        const owner = { containerId: prefix + index, ifName: "eth0" };
        await store.allocate({ owner, netns: { path: "/run/netns/x", dev: 4, ino: index }, sets, requested: [] });
        process.stdout.write(owner.containerId + "\\n");
        if (index >= 20) await store.release({ containerId: prefix + (index - 20), ifName: "eth0" });
      }
    }
    void main();
  `);
});
afterAll(() => child.remove());
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "netctl-crash-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

test("processes killed at any moment leave nothing that can't be found, and no address that is lost", async () => {
  const sets = ["10.1.0.0/25", "fd00::/64"].map((subnet) =>
    completeRangeSet([{ subnet: parseCidr(subnet) }]),
  );
  const store = new LeaseStore({ dataDir, network: "net1", bootId: "boot" });
  const directory = join(dataDir, "net1");
  for (let round = 0; round < 12; round++) {
    const writers = ["a", "b"].map((prefix) => {
      const process = child.start(JSON.stringify({ dataDir, prefix: `${prefix}${round}-` }));
      return {
        process,
        started: new Promise((resolve) => process.stdout?.once("data", resolve)),
        ended: new Promise((resolve) => process.once("close", resolve)),
      };
    });
    for (const { process, started, ended } of writers) {
      await started;
      process.stdout?.resume();
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 30));
      process.kill("SIGKILL");
      await ended;
    }
    const files = readdirSync(directory).filter(
      (name) => /^[0-9a-f]+[.:]/.test(name) && !name.startsWith("last"),
    );
    const owners = new Map<string, string[]>();
    for (const name of files) {
      const [containerId = ""] = readFileSync(join(directory, name), "utf8").split("\r\n");
      owners.set(containerId, [...(owners.get(containerId) ?? []), name]);
    }
    for (const [containerId, addresses] of owners) {
      // Killed between the two addresses of one ADD, or of one DEL: only then has somebody just one of a family.
      expect(addresses.length).toBeLessThanOrEqual(2);
      if (containerId !== "") await store.release({ containerId, ifName: "eth0" });
    }
    const left = readdirSync(directory).filter((name) => /^[0-9a-f]+[.:]/.test(name));
    expect(left).toEqual([]);
    await store.collect([]);
  }
  // All 125 can still be had.
  for (let index = 0; index < 125; index++) {
    await store.allocate({ owner: { containerId: `z${index}`, ifName: "eth0" }, sets, requested: [] });
  }
});
