import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { libDirectory } from "#native/lib-directory.ts";

/** A small program of the repo's own modules, for tests that need several processes or have to kill one. */
export interface BundledChild {
  /** The program, for `node`. */
  readonly file: string;
  /** Starts it with `argument` as the only one; the test has to wait for its end. */
  start(argument: string): ChildProcess;
  /** Runs it to its end. @throws {Error} with stderr where it fails */
  run(argument: string): Promise<string>;
  remove(): void;
}

/** @param source TypeScript with imports by `#folder/file.ts`; finds its argument in `process.argv[2]` */
export async function bundleChild(source: string): Promise<BundledChild> {
  const directory = mkdtempSync(join(tmpdir(), "netctl-child-"));
  const outfile = join(directory, "child.cjs");
  await build({
    stdin: { contents: source, loader: "ts", resolveDir: join(import.meta.dirname, "..") },
    outfile,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "cjs",
    logLevel: "error",
    logOverride: { "empty-import-meta": "silent" },
    define: { NETCTL_LIB_DIRECTORY: JSON.stringify(libDirectory()) },
  });
  const start = (argument: string) =>
    spawn(process.execPath, [outfile, argument], { env: {}, stdio: ["ignore", "pipe", "pipe"] });
  return {
    file: outfile,
    start,
    async run(argument) {
      const child = start(argument);
      const output = { stdout: "", stderr: "" };
      child.stdout.on("data", (chunk: Buffer) => (output.stdout += chunk.toString()));
      child.stderr.on("data", (chunk: Buffer) => (output.stderr += chunk.toString()));
      const code = await new Promise((resolve) => child.on("close", resolve));
      if (code !== 0) throw new Error(`child ended with ${String(code)}: ${output.stderr}`);
      return output.stdout;
    },
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}
