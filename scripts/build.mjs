// Builds dist/: the native parts with the machine's compiler, one bundled file per program, and the executables.
// `--faults DIR` builds the same into another directory with crash points compiled in (machine/crash-point.ts), for
// conformance/faults.

import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { buildLauncher, buildSandboxEnter } from "./build-programs.mjs";
import { bundles, executables, faultBundles, programs } from "./executables.mjs";
import { onlyPlugin } from "./one-plugin.mjs";

const [flag, directory] = process.argv.slice(2);
const faults = flag === "--faults";
if (flag !== undefined && !(faults && directory)) {
  console.error("Usage: node scripts/build.mjs [--faults DIR]");
  process.exit(2);
}
const root = fileURLToPath(new URL("..", import.meta.url));
const out = faults ? resolve(directory) : `${root}dist`;
process.chdir(root);

async function bundle({ entry, file, format, constants: own = {}, plugins = [] }) {
  if (!existsSync(entry)) throw new Error(`Cannot bundle ${entry}: no such file`);
  const constants = { NETCTL_FAULTS: String(faults), ...own };
  if (format === "cjs") constants.NETCTL_LIB_DIRECTORY = "__dirname";
  await build({
    entryPoints: [entry],
    outfile: `${out}/${file}.new`,
    bundle: true,
    platform: "node",
    target: "node20",
    format,
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    logLevel: "warning",
    logOverride: { "empty-import-meta": "silent" },
    define: constants,
    plugins,
    // What is loaded only when it is needed is required then: the loader of ES modules takes longer than all of ours.
    supported: format === "cjs" ? { "dynamic-import": false } : {},
    // Libraries written as CommonJS call require() for Node's own modules, which an ES module does not have.
    banner:
      format === "esm"
        ? { js: 'import{createRequire as __cr}from"node:module";const require=__cr(import.meta.url);' }
        : {},
  });
}

const put = (file) => renameSync(`${out}/${file}.new`, `${out}/${file}`);

/** The program, its code cache, and what starts it with that. */
async function bundleProgram({ name, entry, alone = [], flags = {} }) {
  await compileProgram({ name, entry, flags });
  for (const each of alone)
    await compileProgram({ name: `${name}-${each}`, entry, plugins: [onlyPlugin(each)] });
  const constants = { NETCTL_PROGRAM: JSON.stringify(name), NETCTL_ALONE: JSON.stringify(alone) };
  const start = `lib/${name}.cjs`;
  await bundle({ entry: "suite/program.ts", file: start, format: "cjs", constants });
  put(start);
}

async function compileProgram({ name, entry, plugins, flags: { started = [], later = [] } = {} }) {
  const [source, cache] = [`lib/${name}.js`, `lib/${name}.cache`];
  await bundle({ entry, file: source, format: "cjs", plugins });
  const compiler = [
    ...started,
    "scripts/code-cache.mjs",
    `${out}/${source}.new`,
    `${out}/${source}`,
    ...later,
  ];
  const { status } = spawnSync(process.execPath, compiler, { stdio: "inherit" });
  if (status !== 0) throw new Error(`Cannot compile ${source}`);
  for (const file of [source, cache]) put(file);
}

/** The page of `netctl ui`: one script, one style sheet, nothing from elsewhere. */
async function bundlePage() {
  const page = "netctl/ui/page";
  mkdirSync(`${out}/lib/ui`, { recursive: true });
  await build({
    entryPoints: [`${page}/app.tsx`],
    outfile: `${out}/lib/ui/app.js.new`,
    bundle: true,
    platform: "browser",
    target: "es2022",
    format: "iife",
    minify: true,
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
    logLevel: "warning",
  });
  put("lib/ui/app.js");
  for (const name of ["index.html", "app.css"]) {
    copyFileSync(`${page}/${name}`, `${out}/lib/ui/${name}.new`);
    put(`lib/ui/${name}`);
  }
}

/** A running executable can't be written to (ETXTBSY), so each is replaced by rename. */
function install(source, target) {
  copyFileSync(source, `${target}.new`);
  chmodSync(`${target}.new`, 0o755);
  renameSync(`${target}.new`, target);
}

mkdirSync(`${out}/bin`, { recursive: true });
mkdirSync(`${out}/lib`, { recursive: true });
const native = spawnSync(process.execPath, ["scripts/build-native.mjs"], { stdio: "inherit" });
if (native.status !== 0) process.exit(native.status ?? 1);
buildLauncher(`${out}/lib`, { faults });
if (faults) install("dist/lib/native.node", `${out}/lib/native.node`);
else buildSandboxEnter(`${out}/lib`);
for (const each of programs) await bundleProgram(each);
for (const each of faults ? faultBundles : bundles) {
  await bundle(each);
  put(each.file);
}
if (!faults) await bundlePage();
for (const name of executables) install(`${out}/lib/launcher`, `${out}/bin/${name}`);
if (!faults) {
  rmSync("dist/.built", { force: true });
  writeFileSync("dist/.built", "");
}
