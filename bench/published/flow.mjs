// Builds flow.c, which makes the traffic.
import { spawnSync } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** The program's path. @param root of the repository */
export function compileFlow(root) {
  const program = join(root, "dist/lib/bench-flow");
  const source = join(root, "bench/published/flow.c");
  const builtMs = statSync(program, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (builtMs > statSync(source).mtimeMs) return program;
  mkdirSync(join(root, "dist/lib"), { recursive: true });
  const flags = ["-O2", "-Wall", "-Wextra", "-pthread"];
  const { status } = spawnSync(process.env.CC || "cc", [...flags, "-o", program, source], {
    stdio: "inherit",
  });
  if (status !== 0) throw new Error(`Cannot compile ${source}`);
  return program;
}
