// Compiles native/addon.c to dist/lib/native.node with the machine's C compiler. Does nothing where that was made of the
// same text: times say nothing once somebody has copied a folder.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const native = join(root, "native");
const source = join(native, "addon.c");
const parts = readdirSync(native)
  .filter((name) => name.endsWith(".inc.c"))
  .sort()
  .map((name) => join(native, name));
const target = join(root, "dist/lib/native.node");
const digestFile = join(root, "dist/native.sha256");

/** Of all that goes into the file. */
function digestOfSources() {
  const hash = createHash("sha256");
  for (const path of [source, ...parts, fileURLToPath(import.meta.url)]) hash.update(readFileSync(path));
  return hash.update(process.env.CC ?? "").digest("hex");
}

const digest = digestOfSources();
const builtOf = existsSync(target) && existsSync(digestFile) ? readFileSync(digestFile, "utf8") : "";
if (builtOf !== digest) {
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
  writeFileSync(digestFile, digest);
}
