// Runs in the VM: the steps of job.json one after the other, each with a time limit; how they ended goes to ended.json.
import { spawn, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";

const [out = ""] = process.argv.slice(2);
const { steps } = JSON.parse(readFileSync(join(out, "job.json"), "utf8"));
const ended = [];

/** @returns the exit code, or why there is none */
function run({ args, environment, limitMs }) {
  return new Promise((resolve) => {
    // A pipe and not the console itself, which would make programs draw instead of print.
    const child = spawn(process.execPath, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    child.stdout.on("data", (data) => process.stdout.write(data));
    child.stderr.on("data", (data) => process.stderr.write(data));
    const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
    child.on("error", (error) => resolve(error.message));
    child.on("exit", (exitCode, signal) => {
      clearTimeout(timer);
      resolve(exitCode ?? (signal === "SIGKILL" ? `killed after ${limitMs / 60_000} minutes` : signal));
    });
  });
}

console.log(`Linux ${release()}`);
for (const step of steps) {
  for (const name of step.modules) {
    const { status, stderr } = spawnSync("modprobe", [name], { encoding: "utf8" });
    if (status !== 0) console.log(`Cannot load module ${name}: ${stderr.trim()}`);
  }
  console.log(`\n${step.title}`);
  const startMs = performance.now();
  const exit = await run(step);
  const seconds = Math.round((performance.now() - startMs) / 1000);
  ended.push({ name: step.name, exit, seconds });
  writeFileSync(join(out, "ended.json"), JSON.stringify({ kernel: release(), steps: ended }));
  console.log(`${step.title}: ended with ${exit} after ${seconds} s`);
}
