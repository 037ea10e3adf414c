// Compiles a program for vm.Script, every function of it, and writes what V8 made of it: `node code-cache.mjs FILE TARGET`
// turns FILE (a CommonJS bundle) into a function expression that begins with `//IDENTITY`, and writes FILE with .cache
// instead of .js beside it. In a process of its own, as it changes V8's flags.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { Script } from "node:vm";

const [file, target, ...laterFlags] = process.argv.slice(2);
const bundle = readFileSync(file, "utf8");
if (/[^\x00-\x7f]/.test(bundle)) throw new Error(`Cannot compile ${file}: it is not ASCII`);
const identity = createHash("sha256").update(bundle).digest("hex").slice(0, 16);
const source = `//${identity}\n(function(exports,require,module,__filename,__dirname){${bundle}\n})`;

// Functions are compiled when they are first called, and only those that are compiled get into the cache.
setFlagsFromString("--no-lazy");
const script = new Script(source, { filename: target });
// V8 takes the cache only where its flags are what they were when it was written: those that Node was started with, and
// those that were set later.
setFlagsFromString("--lazy");
for (const flag of laterFlags) setFlagsFromString(flag);
writeFileSync(file, source);
writeFileSync(
  file.replace(/\.js(\.new)?$/, ".cache$1"),
  Buffer.concat([Buffer.from(identity), script.createCachedData()]),
);
