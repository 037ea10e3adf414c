import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildSuite } from "#testing/suite-lab.ts";
import type { CaseResult } from "./case.ts";
import { type Completed, runCommand } from "./command.ts";
import type { Report } from "./report.ts";

/** The kit against plugins that are wrong on purpose: it must see each fault. */

let directory = "";
let program = "";

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "conformance-test-"));
  program = join(directory, "main.js");
  await build({
    entryPoints: [fileURLToPath(new URL("main.ts", import.meta.url))],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "esm",
    logLevel: "error",
  });
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

const version = `{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}`;
const result = `{"cniVersion":"1.0.0","interfaces":[{"name":"lo","mac":"00:00:00:00:00:00","sandbox":"'"$CNI_NETNS"'"}],"ips":[{"address":"127.0.0.1/8","interface":0},{"address":"::1/128","interface":0}]}`;

/** A plugin that does what loopback does, well enough for the cases used here. */
const sound: Readonly<Record<string, string>> = {
  VERSION: `echo '${version}'`,
  ADD: `ip netns exec "\${CNI_NETNS##*/}" ip link set lo up; echo '${result}'`,
  CHECK: `ip netns exec "\${CNI_NETNS##*/}" ip link show lo | grep -q ',UP' || { echo '{"code":100,"msg":"lo is down"}'; exit 1; }`,
  DEL: `[ -e "$CNI_NETNS" ] && ip netns exec "\${CNI_NETNS##*/}" ip link set lo down; true`,
  GC: "true",
  STATUS: "true",
};

/** A folder with one shell script called loopback, `verbs` of it replaced. */
async function folder(name: string, verbs: Readonly<Record<string, string>>): Promise<string> {
  const bin = join(directory, name);
  await mkdir(bin);
  const branches = Object.entries({ ...sound, ...verbs }).map(([verb, script]) => `${verb}) ${script} ;;`);
  const script = `#!/bin/sh\ncat > /dev/null\ncase "$CNI_COMMAND" in\n${branches.join("\n")}\nesac\n`;
  await writeFile(join(bin, "loopback"), script);
  await chmod(join(bin, "loopback"), 0o755);
  return bin;
}

async function run(
  bin: string,
  ...args: readonly string[]
): Promise<{ completed: Completed; report: Report }> {
  const json = `${bin}.json`;
  const completed = await runCommand(process.execPath, [program, "--bin", bin, "--json", json, ...args]);
  const report = JSON.parse(await readFile(json, "utf8")) as Report;
  return { completed, report };
}

function find(report: Report, title: string): CaseResult {
  const found = report.results.find((candidate) => candidate.title === title);
  if (found === undefined) throw new Error(`No case "${title}" in the report`);
  return found;
}

const up = "ADD sets lo up, which answers by IPv4 and IPv6";
const nothing = "nothing on the host changes";

describe("conformance", () => {
  test("passes a sound plugin, exits 0 and skips what the folder lacks by name", async () => {
    const bin = await folder("sound", {});
    const { completed, report } = await run(bin, "--only", "loopback", "--case", "sets lo");
    expect(completed.stdout).toMatch(/^\d+ passed, 0 failed, 0 skipped$/m);
    expect(completed.exitCode).toBe(0);
    expect(report.results.length).toBe(2);
    const other = await run(bin, "--only", "static");
    expect(other.completed.exitCode).toBe(0);
    expect(new Set(other.report.results.map((one) => one.reason))).toEqual(new Set(["no executable static"]));
  });

  test("sees rubbish on stdout", async () => {
    const bin = await folder("garbage", { ADD: `echo 'made it!'; echo '${result}'` });
    const { completed, report } = await run(bin, "--only", "loopback", "--case", up);
    expect(completed.exitCode).toBe(1);
    expect(find(report, up)).toMatchObject({ status: "fail" });
    expect(find(report, up).reason).toContain("expected one JSON object");
  });

  test("sees a plugin that does nothing and says it did", async () => {
    const bin = await folder("idle", { ADD: `echo '${result}'` });
    const { report } = await run(bin, "--only", "loopback", "--case", up);
    expect(find(report, up).reason).toBe("lo is down");
  });

  test("sees a link, an address, a rule and an nft table that stay after DEL", async () => {
    const leaks: readonly (readonly [script: string, reason: RegExp])[] = [
      ["ip link add leak0 type veth peer name leak1", /link leak1; link leak0/],
      ["ip address add 192.0.2.99/32 dev lo", /address 192\.0\.2\.99\/32 on lo/],
      ["ip rule add from 192.0.2.99 lookup 100", /ip rule .*192\.0\.2\.99/],
      [
        "nft 'add table inet t; add set inet t s { type ipv4_addr; }; add element inet t s { 192.0.2.9 comment \"mine\" }'",
        /element of inet t s/,
      ],
      ["nft 'add table inet t; add chain inet t lost'", /chain .*lost/],
      ["echo $CNI_CONTAINERID > $NETCTL_STATE_DIR/record", /record names the container/],
      ["mkdir $NETCTL_RUN_DIR/m; mount -t tmpfs none $NETCTL_RUN_DIR/m", /mount .*\/m/],
    ];
    for (const [at, [script, reason]] of leaks.entries()) {
      const bin = await folder(`leak-${at}`, { ADD: `{ ${script}; } >&2; ${sound["ADD"] ?? ""}` });
      const { report } = await run(bin, "--only", "loopback", "--case", up);
      expect(find(report, up).reason, script).toMatch(/^left behind after DEL/);
      expect(find(report, up).reason, script).toMatch(reason);
    }
  });

  test("sees any change of the host where none is allowed", async () => {
    const bin = await folder("meddler", {
      ADD: `echo 1 > /proc/sys/net/ipv4/ip_forward; ${sound["ADD"] ?? ""}`,
    });
    const { report } = await run(bin, "--only", "loopback", "--case", nothing);
    expect(find(report, nothing).reason).toContain("forwarding changed from 0");
  });

  test("sees a DEL that is ignored", async () => {
    const title = "DEL sets lo down";
    const bin = await folder("deaf", { DEL: "true" });
    const { report } = await run(bin, "--only", "loopback", "--case", title);
    expect(find(report, title)).toMatchObject({ status: "fail", reason: "lo is up" });
  });

  test("sees a CHECK that is always silent, and one that talks", async () => {
    const title = "CHECK is silent while lo is up and fails once it is down";
    const silent = await run(
      await folder("silent", { CHECK: "true" }),
      "--only",
      "loopback",
      "--case",
      title,
    );
    expect(find(silent.report, title).reason).toBe("loopback CHECK succeeded, expected an error");
    const talking = await run(
      await folder("talking", { CHECK: "echo fine" }),
      "--only",
      "loopback",
      "--case",
      title,
    );
    expect(find(talking.report, title).reason).toContain("expected nothing");
  });

  test("after a loss takes a mended host for a CHECK that fails, and neither silence nor other rules", async () => {
    const title = "CHECK fails after the masquerade rules were flushed";
    const suite = await buildSuite();
    try {
      const bridge = join(suite.bin, "bridge");
      /** Beside the script, where a run looks for nothing left behind. */
      const own = "$(dirname $0)";
      const save = `nft list ruleset > ${own}/rules`;
      const meddle = "nft add table inet meddled";
      const checks: readonly (readonly [name: string, check: string, reason: RegExp])[] = [
        ["lying", "true", /bridge CHECK succeeded, expected an error: nft .* is gone/],
        ["mending", `nft flush ruleset; nft -f ${own}/rules`, /^$/],
        // Once it has answered, as a service may.
        ["soon", `(sleep 1; nft -f ${own}/rules) > /dev/null 2>&1 & true`, /^$/],
        ["meddling", `${meddle}; exec ${bridge}`, /changed: .*"meddled"/],
      ];
      for (const [name, check, reason] of checks) {
        const bin = join(directory, name);
        await mkdir(bin);
        await symlink(join(suite.bin, "host-local"), join(bin, "host-local"));
        // The first CHECK is before the loss.
        const lines = [
          `if [ $CNI_COMMAND = CHECK ] && [ -e ${own}/asked ]; then ${check}; exit; fi`,
          `[ $CNI_COMMAND != CHECK ] || { ${save}; touch ${own}/asked; }`,
          `exec ${bridge}`,
        ];
        await writeFile(join(bin, "bridge"), `#!/bin/sh\n${lines.join("\n")}\n`, { mode: 0o755 });
        const { report } = await run(bin, "--only", "bridge", "--case", title);
        expect(find(report, title).reason, name).toMatch(reason);
      }
    } finally {
      suite.remove();
    }
  });

  test("sees an error without its object, and a plugin that is killed", async () => {
    const title = "a namespace that has gone is an error for ADD";
    const mute = await run(
      await folder("mute", { ADD: "echo broken >&2; exit 1" }),
      "--only",
      "loopback",
      "--case",
      title,
    );
    expect(find(mute.report, title).reason).toContain("without one JSON object on stdout");
    const dead = await run(
      await folder("dead", { ADD: "kill -SEGV $$" }),
      "--only",
      "loopback",
      "--case",
      title,
    );
    expect(find(dead.report, title).reason).toContain("was ended by SIGSEGV");
  });

  test("leaves no namespace, mount or process on the machine, not even when it is killed", async () => {
    const bin = await folder("slow", { ADD: "sleep 30" });
    const before = await machine();
    const running = runCommand(process.execPath, [program, "--bin", bin, "--only", "loopback"], {
      onStart: (processId) => setTimeout(() => process.kill(processId, "SIGKILL"), 1500),
    });
    expect((await running).signal).toBe("SIGKILL");
    for (let waited = 0; waited < 200 && (await machine()) !== before; waited += 1)
      await new Promise((resolve) => setTimeout(resolve, 100));
    expect(await machine()).toBe(before);
  });

  test("refuses arguments that make no sense, by name", async () => {
    for (const [args, message] of [
      [["--bin"], "--bin needs a value"],
      [[], "--bin DIR is missing"],
      [["--bin", directory, "--only", "nonsense"], 'Unknown topic "nonsense"'],
      [["--bin", directory, "--fuzz", "many"], '--fuzz must be a number: "many"'],
      [["--wat"], 'Unknown argument "--wat"'],
    ] as const) {
      const completed = await runCommand(process.execPath, [program, ...args]);
      expect(completed.exitCode).toBe(2);
      expect(completed.stderr).toContain(message);
    }
  });

  test("puts two reports side by side, between the marks of a file", async () => {
    const good = await folder("compared-good", {});
    const bad = await folder("compared-bad", { DEL: "true" });
    await run(good, "--only", "loopback", "--case", "DEL sets lo down");
    await run(bad, "--only", "loopback", "--case", "DEL sets lo down");
    const page = join(directory, "page.md");
    await writeFile(page, "before\n<!-- conformance:begin -->\nold\n<!-- conformance:end -->\nafter\n");
    const args = ["--compare", `${good}.json`, `${bad}.json`, "--markdown", page];
    expect((await runCommand(process.execPath, [program, ...args])).exitCode).toBe(0);
    const text = await readFile(page, "utf8");
    expect(text).toMatch(/^before\n/);
    expect(text).toMatch(/\nafter\n$/);
    expect(text).not.toContain("old");
    expect(text).toContain("| DEL sets lo down | loopback plugin | pass | **fail** | lo is up |");
  });
});

/** Namespaces, mounts and processes of the kit's that the machine has, and nobody else's. */
async function machine(): Promise<string> {
  const shown = await runCommand("sh", [
    "-c",
    `ls /run/netns 2>/dev/null | grep ^cf-; grep -c conformance /proc/self/mountinfo; ps -eo args | grep -F '${program}' | grep -vc grep`,
  ]);
  return shown.stdout;
}
