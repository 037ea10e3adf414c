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
  fields: Readonly<Record<string, unknown>> = {},
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
  child.stdin.end(JSON.stringify({ ...config, ...fields }));
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

test("what is born under another name, as on older kernels, never stays under that", async () => {
  const container = TestNamespace.create("container");
  try {
    // A master that stays, and does not take with it what is on it.
    lab.host.run("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up");
    const plain = { internal: false, hostAccess: false, master: "up0" };
    const older = { NETCTL_PRETEND: "older-kernel" };
    const trace = { ...older, NETCTL_FAULT_TRACE: lab.path("trace") };
    expect((await run("ADD", container, trace, plain)).json).not.toHaveProperty("code");
    expect(readFileSync(lab.path("trace"), "utf8")).toContain("standalone/child-link-born");
    const attached = left(container);
    expect(attached).toMatchObject({ container: ["lo", expect.stringMatching(/^eth0@/u) as string] });
    expect((await run("DEL", container, {}, plain)).json).toEqual({});
    const nothing = {
      host: ["lo", "up1@up0", "up0@up1"],
      routes: "",
      container: ["lo"],
      records: [],
      users: [],
    };
    expect(left(container)).toEqual(nothing);

    const killed = { ...older, NETCTL_CRASH_AT: "standalone/child-link-born" };
    const valid = { ...plain, "cni.dev/valid-attachments": [] };
    const ways: Readonly<Record<string, () => Promise<Ended>>> = {
      DEL: () => run("DEL", container, {}, plain),
      "DEL without namespace": () => run("DEL", container, { CNI_NETNS: "" }, plain),
      GC: () => run("GC", container, { CNI_CONTAINERID: "", CNI_IFNAME: "", CNI_NETNS: "" }, valid),
    };
    for (const [way, finish] of Object.entries(ways)) {
      expect((await run("ADD", container, killed, plain)).signal).toBe("SIGKILL");
      expect(left(container)).toMatchObject({ container: ["lo", expect.stringMatching(/^new-/u) as string] });
      expect((await finish()).json, way).toEqual({});
      expect(left(container), way).toEqual(nothing);
    }
    expect((await run("ADD", container, killed, plain)).signal).toBe("SIGKILL");
    expect((await run("ADD", container, {}, plain)).json).not.toHaveProperty("code");
    expect(left(container)).toMatchObject({ container: ["lo", expect.stringMatching(/^eth0@/u) as string] });
    expect((await run("DEL", container, {}, plain)).json).toEqual({});
    expect(left(container)).toEqual(nothing);
  } finally {
    container.remove();
  }
});

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
