import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Script } from "node:vm";
import { build } from "esbuild";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");

let directory: string;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "netctl-program-"));
  await build({
    entryPoints: [join(root, "suite/program.ts")],
    outfile: at("hello.cjs"),
    bundle: true,
    platform: "node",
    format: "cjs",
    define: { NETCTL_PROGRAM: '"hello"', NETCTL_ALONE: '["me"]' },
  });
  compile(program);
});
afterEach(() => rmSync(directory, { recursive: true }));

const program = 'console.log("hello", process.argv[2], require("node:path").basename(__dirname) !== "");';

const at = (name: string) => join(directory, name);

function compile(source: string, file = at("hello.js")): void {
  writeFileSync(file, source);
  execFileSync(process.execPath, [join(root, "scripts/code-cache.mjs"), file, file]);
}

const hello = (whom = "you") => execFileSync(process.execPath, [at("hello.cjs"), whom], { encoding: "utf8" });

test("runs the program, with what it wants of a CommonJS module", () => {
  expect(hello()).toBe("hello you true\n");
});

test("runs the smaller program of what has one", () => {
  compile('console.log("hello myself");', at("hello-me.js"));
  expect([hello("me"), hello("you"), hello("../me")]).toEqual([
    "hello myself\n",
    "hello you true\n",
    "hello ../me true\n",
  ]);
});

test("the code cache is one that this Node takes", () => {
  const cachedData = readFileSync(at("hello.cache")).subarray(16);
  expect(new Script(readFileSync(at("hello.js"), "latin1"), { cachedData }).cachedDataRejected).toBe(false);
});

test("the code cache is one that netd and its resolver take, whose flags of V8 are others", () => {
  const load = `
    const { readFileSync } = require("node:fs");
    const [file, cache, ...later] = process.argv.slice(1);
    for (const flag of later) require("node:v8").setFlagsFromString(flag);
    const cachedData = readFileSync(cache).subarray(16);
    console.log(new (require("node:vm").Script)(readFileSync(file, "latin1"), { cachedData }).cachedDataRejected);`;
  const isRejected = (started: readonly string[], later: readonly string[]) =>
    execFileSync(process.execPath, [...started, "-e", load, at("hello.js"), at("hello.cache"), ...later], {
      encoding: "utf8",
    });
  const small = "--optimize-for-size";
  for (const { started, later } of [
    { started: [small], later: [] },
    { started: [small], later: ["--no-optimize-for-size"] },
  ]) {
    writeFileSync(at("hello.js"), program);
    const compiler = [join(root, "scripts/code-cache.mjs"), at("hello.js"), at("hello.js")];
    execFileSync(process.execPath, [...started, ...compiler, ...later]);
    expect(isRejected(started, later)).toBe("false\n");
    expect(isRejected([], [])).toBe("true\n");
  }
});

test("does without a cache that is missing, damaged or another program's of the same length", () => {
  copyFileSync(at("hello.cache"), at("other.cache"));
  compile('console.log("servus", process.argv[2]);'.padEnd(program.length));
  const whole = readFileSync(at("hello.cache"));
  for (const cache of [readFileSync(at("other.cache")), whole.subarray(0, 100), whole.subarray(0, 16)]) {
    writeFileSync(at("hello.cache"), cache);
    expect(hello()).toBe("servus you\n");
  }
  rmSync(at("hello.cache"));
  expect(hello()).toBe("servus you\n");
});
