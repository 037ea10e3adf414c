// Main of every program of the suite: runs NAME.js beside this file, with the machine code's precursor that V8 made of
// it when it was built (scripts/code-cache.mjs). Compiling the source takes as long as Node takes to start.

import { readFileSync } from "node:fs";
import { Script } from "node:vm";

/** Defined by the bundler: "standalone", "netd" … */
declare const NETCTL_PROGRAM: string;
/** What has a smaller program of its own where it is the first argument: standalone-NAME.js for a plugin. */
declare const NETCTL_ALONE: readonly string[];

/** How both files begin. V8 itself only compares the length of the source with that of the one it compiled. */
const identityBytes = 16;

const asked = process.argv[2] ?? "";
const path = `${__dirname}/${NETCTL_PROGRAM}${NETCTL_ALONE.includes(asked) ? `-${asked}` : ""}`;
const source = readFileSync(`${path}.js`, "latin1");

/** Undefined where it is not that of this very source: the program starts more slowly then. */
function readCodeCache(): Buffer | undefined {
  try {
    const bytes = readFileSync(`${path}.cache`);
    const isOfSource = source.startsWith(`//${bytes.toString("latin1", 0, identityBytes)}\n`);
    return isOfSource ? bytes.subarray(identityBytes) : undefined;
  } catch {
    return undefined;
  }
}

const cachedData = readCodeCache();
// Another version of Node rejects the cache and compiles the source.
const script = new Script(source, { filename: `${path}.js`, ...(cachedData && { cachedData }) });
const run: unknown = script.runInThisContext();
if (typeof run !== "function") throw new Error(`Cannot run ${path}.js: it is no function`);
run(exports, require, module, `${path}.js`, __dirname);
