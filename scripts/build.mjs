// Builds dist/: the native parts with the machine's compiler, one bundled file per program, and the executables.

import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { buildPrograms } from "./build-programs.mjs";
import { bundles, executables } from "./executables.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
process.chdir(root);

mkdirSync("dist/bin", { recursive: true });
mkdirSync("dist/lib", { recursive: true });
const native = spawnSync(process.execPath, ["scripts/build-native.mjs"], { stdio: "inherit" });
if (native.status !== 0) process.exit(native.status ?? 1);
buildPrograms();

for (const { entry, out, format } of bundles) {
  if (!existsSync(entry)) throw new Error(`Cannot bundle ${entry}: no such file`);
  await build({
    entryPoints: [entry],
    outfile: `${out}.new`,
    bundle: true,
    platform: "node",
    target: "node20",
    format,
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    logLevel: "warning",
    logOverride: { "empty-import-meta": "silent" },
    define: format === "cjs" ? { NETCTL_LIB_DIRECTORY: "__dirname" } : {},
    // Libraries written as CommonJS call require() for Node's own modules, which an ES module does not have.
    banner:
      format === "esm"
        ? { js: 'import{createRequire as __cr}from"node:module";const require=__cr(import.meta.url);' }
        : {},
  });
  renameSync(`${out}.new`, out);
}

// A running executable can't be written to (ETXTBSY), so each is replaced by rename.
for (const name of executables) {
  copyFileSync("dist/lib/launcher", `dist/bin/${name}.new`);
  chmodSync(`dist/bin/${name}.new`, 0o755);
  renameSync(`dist/bin/${name}.new`, `dist/bin/${name}`);
}
rmSync("dist/.built", { force: true });
writeFileSync("dist/.built", "");
