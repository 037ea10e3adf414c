import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { Verb } from "#cni/plugin.ts";
import { patience } from "#testing/patience.ts";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import { TestNamespace } from "#testing/test-namespace.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "killed");
});
afterEach(() => lab.remove());

/** Everything that a macvlan can have on the host: a parent of its own, the host's macvlan, routes. */
const config = {
  cniVersion: "1.1.0",
  name: "net1",
  type: "macvlan",
  internal: true,
  hostAccess: true,
  enabledad: false,
  ipam: { type: "static", addresses: [{ address: "10.1.0.10/24" }] },
};

interface Ended {
  readonly signal: string | null;
  readonly json: { readonly code?: number; readonly msg?: string };
}

/** The plugin as a process of its own, whose crash points do what the environment says. */
async function run(
  verb: Verb,
  container: TestNamespace,
  environment: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const faults = lab.path("faults.cjs");
  writeFileSync(faults, "globalThis.NETCTL_FAULTS = true;");
  const program = join(suite.bin, "../standalone.cjs");
  const args = [`--net=${lab.host.path}`, process.execPath, "-r", faults, program, "macvlan"];
  const child = spawn("nsenter", args, {
    env: {
      ...lab.environment,
      CNI_COMMAND: verb,
      CNI_CONTAINERID: "c1",
      CNI_NETNS: container.path,
      CNI_IFNAME: "eth0",
      CNI_PATH: suite.bin,
      ...environment,
    },
  });
  let stdout = "";
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stdin.end(JSON.stringify(config));
  const signal = await new Promise<string | null>((resolve) => child.on("close", (_, by) => resolve(by)));
  return { signal, json: stdout.trim() === "" ? {} : (JSON.parse(stdout) as Ended["json"]) };
}

async function pointsOf(verb: Verb, container: TestNamespace): Promise<readonly string[]> {
  const trace = lab.path("trace");
  rmSync(trace, { force: true });
  expect((await run(verb, container, { NETCTL_FAULT_TRACE: trace })).json).not.toHaveProperty("code");
  return readFileSync(trace, "utf8").trim().split("\n");
}

/** What an attachment has on the host and in the container. */
function left(container: TestNamespace): unknown {
  const filesIn = (directory: string) =>
    existsSync(lab.path(directory))
      ? readdirSync(lab.path(directory), { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile() && !entry.parentPath.includes("/."))
          .map(({ name }) => name)
      : [];
  const links = (namespace: TestNamespace) => namespace.run("ip -o link | cut -d: -f2").trim().split(/\s+/);
  return {
    host: links(lab.host),
    routes: lab.host.run("ip route"),
    container: links(container),
    records: filesIn("state/journal"),
    users: filesIn("run/shared"),
  };
}

test(
  "an ADD or a DEL that is killed at any step is finished by the next DEL, and an ADD begins anew",
  async () => {
    const container = TestNamespace.create("container");
    try {
      const nothing = { host: ["lo"], routes: "", container: ["lo"], records: [], users: [] };
      const add = await pointsOf("ADD", container);
      const del = await pointsOf("DEL", container);
      expect(left(container)).toEqual(nothing);
      expect(add.length + del.length).toBeGreaterThan(15);
      for (const [index, point] of add.entries()) {
        expect((await run("ADD", container, { NETCTL_CRASH_AT: point })).signal, point).toBe("SIGKILL");
        // Every other time the runtime tries again at once.
        if (index % 2 === 0) expect((await run("ADD", container)).json, point).not.toHaveProperty("code");
        expect((await run("DEL", container)).json, point).toEqual({});
        expect(left(container), point).toEqual(nothing);
      }
      for (const point of del) {
        expect((await run("ADD", container)).json, point).not.toHaveProperty("code");
        expect((await run("DEL", container, { NETCTL_CRASH_AT: point })).signal, point).toBe("SIGKILL");
        expect((await run("DEL", container, { CNI_NETNS: "" })).json, point).toEqual({});
        expect(left(container), point).toEqual(nothing);
      }
    } finally {
      container.remove();
    }
  },
  240_000 * patience,
);
