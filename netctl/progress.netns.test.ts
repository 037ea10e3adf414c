import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
beforeEach(async () => {
  suite = await buildSuite();
  lab = new SuiteLab(suite, "progress");
  mkdirSync(lab.path("slow"));
  // Somebody else's plugin, which answers an ADD once it is let go.
  const script = `#!/bin/sh
cat > /dev/null
if [ "$CNI_COMMAND" = ADD ]; then while [ ! -e ${lab.path("go")} ]; do sleep 0.05; done; fi
echo '{"cniVersion":"1.0.0","interfaces":[],"ips":[]}'
`;
  writeFileSync(lab.path("slow/slow"), script, { mode: 0o755 });
  mkdirSync(lab.path("conf"));
  const conflist = { cniVersion: "1.0.0", name: "molasses", plugins: [{ type: "slow" }] };
  writeFileSync(lab.path("conf/molasses.conflist"), JSON.stringify(conflist));
});
afterEach(() => {
  lab.remove();
  suite.remove();
});

/** @param through what stands between: a terminal, or nothing */
function create(name: string, through: (command: string) => readonly string[]) {
  const command = `${process.execPath} ${suite.netctl} sandbox create ${name} --network molasses`;
  const environment = {
    ...lab.environment,
    NETCTL_BIN_DIR: `${lab.environment["NETCTL_BIN_DIR"]}:${lab.path("slow")}`,
  };
  const child = spawn("nsenter", [`--net=${lab.host.path}`, ...through(command)], { env: environment });
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (output.stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (output.stderr += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  return { child, output, ended };
}

test("what takes more than a second says on a terminal what it is at, and takes the line away", async () => {
  const { child, output, ended } = create("a", (command) => [
    "script",
    "-qec",
    `stty cols 80 rows 24; ${command}`,
    "/dev/null",
  ]);
  await new Promise<void>((resolve) => {
    child.stdout.on("data", () => {
      if (/netctl sandbox create a … [2-9]\d* s/.test(output.stdout)) resolve();
    });
  });
  writeFileSync(lab.path("go"), "");
  expect(await ended).toBe(0);
  // Erased: nothing of it stands behind the last erasing of a line.
  const erase = "\u001B[2K";
  expect(output.stdout.slice(output.stdout.lastIndexOf(erase))).toMatch(/^.{0,12}[0-9a-f]{64}\r\n$/s);
});

test("without a terminal nothing is said", async () => {
  const { child, output, ended } = create("b", (command) => command.split(" "));
  // As long as the line would have taken to come, and once more.
  await new Promise((resolve) => setTimeout(resolve, 2200));
  expect(child.exitCode).toBeNull();
  writeFileSync(lab.path("go"), "");
  expect(await ended).toBe(0);
  expect(output.stderr).toBe("");
  expect(output.stdout).toMatch(/^[0-9a-f]{64}\n$/);
});
