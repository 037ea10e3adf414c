import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Outcome } from "#cni/plugin.ts";
import { type BundledChild, bundleChild } from "#testing/bundled-child.ts";

const execFileAsync = promisify(execFile);

/** What the child found: outcomes of host-local's verbs, the journal's error, and what is in the directories then. */
interface Report {
  readonly add: Outcome;
  readonly status: Outcome;
  readonly journal: { readonly code?: string; readonly message?: string };
  readonly records: number;
  readonly leases: readonly string[];
}

let child: BundledChild;
let directory: string;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "netctl-disk-"));
  child = await bundleChild(`
    import { readdirSync } from "node:fs";
    import { Journal } from "#journal/journal.ts";
    import { callHostLocal } from "#testing/ipam-host.ts";
    const { state } = JSON.parse(process.argv[2]);
    const config = { cniVersion: "1.1.0", name: "net1", ipam: { type: "host-local", subnet: "10.1.0.0/24" } };
    const call = (verb, containerId) => callHostLocal(state, { verb, containerId }, config);
    async function main() {
      const add = await call("ADD", "late");
      const status = await call("STATUS");
      const journal = new Journal({ directory: state + "/journal", bootId: "b" });
      const intent = { key: { network: "net1", containerId: "c", ifName: "eth0" }, plugin: "bridge", config: { filler: "x".repeat(5000) }, args: [], made: null };
      const error = await journal.begin(intent).then(() => ({}), ({ code, message }) => ({ code, message }));
      journal.remove(intent.key, "bridge");
      const names = readdirSync(state + "/networks/net1").filter((name) => name.startsWith("10."));
      process.stdout.write(JSON.stringify({ add, status, journal: error, records: journal.list().length, leases: names }));
    }
    void main();
  `);
});
afterAll(() => {
  child.remove();
  rmSync(directory, { recursive: true, force: true });
});

/** Runs the child on a small file system of its own, in a mount namespace that ends with it. */
async function runOn(script: string): Promise<Report> {
  const { stdout } = await execFileAsync("unshare", [
    "--mount",
    "sh",
    "-ec",
    `mount -t tmpfs -o size=256k none "$1"; mkdir -p "$1/networks/net1" "$1/journal/net1"
     printf 'early\\r\\neth0' > "$1/networks/net1/10.1.0.2"
     ${script}
     exec "$2" "$3" "{\\"state\\":\\"$1\\"}"`,
    "sh",
    directory,
    process.execPath,
    child.file,
  ]);
  return JSON.parse(stdout) as Report;
}

const fault = (outcome: Outcome) => JSON.parse(outcome.stdout) as { code: number; msg: string };

describe("a full disk", () => {
  test("is code 5 for ADD and 50 for STATUS, and leaves no lease and no record", async () => {
    const report = await runOn('dd if=/dev/zero of="$1/filler" bs=4096 2>/dev/null || true');
    expect(fault(report.add)).toMatchObject({ code: 5, msg: expect.stringContaining("ENOSPC") as string });
    expect(report.leases).toEqual(["10.1.0.2"]);
    expect(fault(report.status)).toMatchObject({
      code: 50,
      msg: expect.stringContaining("disk full") as string,
    });
    expect(report.journal).toMatchObject({
      code: "ENOSPC",
      message: expect.stringContaining("Cannot write journal record") as string,
    });
    expect(report.records).toBe(0);
  });
});

describe("a read-only disk", () => {
  test("is code 5 for ADD and 50 for STATUS", async () => {
    const report = await runOn('mount -o remount,ro "$1"');
    expect(fault(report.add)).toMatchObject({ code: 5, msg: expect.stringContaining("EROFS") as string });
    expect(fault(report.status)).toMatchObject({ code: 50, msg: expect.stringContaining("EROFS") as string });
    expect(report.journal).toMatchObject({ code: "EROFS" });
    expect(report.leases).toEqual(["10.1.0.2"]);
  });
});
