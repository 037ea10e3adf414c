// Compiles native/addon.c to dist/lib/native.node with the machine's C compiler. Does nothing where that is newer.
import { spawnSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const source = join(root, "native/addon.c");
const parts = [
  source,
  ...["own-proc.inc.c", "poller.inc.c", "answers.inc.c"].map((name) => join(root, "native", name)),
  fileURLToPath(import.meta.url),
];
const target = join(root, "dist/lib/native.node");
const changedMs = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

if (changedMs(target) <= Math.max(...parts.map(changedMs))) {
  const { include_dir: headers } = createRequire(import.meta.url)("node-api-headers");
  const compiler = process.env.CC || "cc";
  mkdirSync(join(root, "dist/lib"), { recursive: true });
  // Written aside and renamed, so that a process which loads it meanwhile never sees half of it.
  const aside = `${target}.${process.pid}`;
  const flags = ["-O2", "-Wall", "-Wextra", "-Werror=implicit", "-shared", "-fPIC", "-pthread"];
  // nodelete: a thread may still be inside a deletion when the Worker that loaded the addon has gone.
  const linked = ["-Wl,-z,nodelete", "-Wl,-z,relro,-z,now", "-s"];
  const result = spawnSync(compiler, [...flags, `-I${headers}`, ...linked, "-o", aside, source], {
    stdio: "inherit",
  });
  if (result.error || result.status !== 0) {
    rmSync(aside, { force: true });
    const reason = result.error
      ? `no C compiler "${compiler}" (${result.error.code})`
      : `"${compiler}" failed`;
    console.error(
      `Cannot build dist/lib/native.node: ${reason}. Install one (Debian: apt-get install gcc libc6-dev) or set CC`,
    );
    process.exit(1);
  }
  renameSync(aside, target);
}
