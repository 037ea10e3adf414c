// npm run fuzz:names: changes bytes at random, gives them to what the resolver does with bytes (testing/fuzz/names.ts),
// and keeps what has reached code that nothing has reached before, to change it further. Ends with the first input that
// is treated as none may be, which it prints and leaves in a file.
//   --seconds N (60)   --runs N (no limit)   --seed N (the clock)   --input FILE: that one alone

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build, transform } from "esbuild";
import { createInstrumenter } from "istanbul-lib-instrument";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values: options } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    runs: { type: "string", default: "Infinity" },
    seed: { type: "string", default: String(Date.now() & 0xffffffff) },
    input: { type: "string" },
  },
});
const seconds = Number(options.seconds);
const runs = Number(options.runs);
const seed = Number(options.seed);
if (!(seconds > 0) || !(runs > 0) || !Number.isSafeInteger(seed)) {
  console.error("fuzz:names: --seconds and --runs take numbers above 0, --seed a whole number");
  process.exit(2);
}
const directory = join(root, "dist/fuzz");
const maxBytes = 1400;

/** Counts how often each statement and branch of what is tested is reached. */
const counting = {
  name: "counting",
  setup({ onLoad }) {
    onLoad({ filter: /\/(dns-resolver|net)\/.*\.ts$/ }, async ({ path }) => {
      const { code } = await transform(readFileSync(path, "utf8"), { loader: "ts", target: "node20" });
      const instrumenter = createInstrumenter({ esModules: true, compact: false });
      return { contents: instrumenter.instrumentSync(code, path), loader: "js" };
    });
  },
};

mkdirSync(directory, { recursive: true });
const outfile = join(directory, "names.cjs");
await build({
  stdin: {
    contents: 'export * from "./names.ts"; export * from "./mutate.ts";',
    resolveDir: join(root, "testing/fuzz"),
  },
  outfile,
  bundle: true,
  platform: "node",
  target: "node20",
  format: "cjs",
  logLevel: "error",
  logOverride: { "empty-import-meta": "silent" },
  plugins: [counting],
});
const { fuzzNames, seedsOfNames, partsOfNames, mutate, randomFrom } = createRequire(import.meta.url)(outfile);

if (options.input !== undefined) {
  fuzzNames(readFileSync(options.input));
  console.log("nothing wrong with it");
  process.exit(0);
}

/** All counters, as the lists that instrumented code counts in. */
const counters = Object.values(globalThis.__coverage__).flatMap(({ s, b }) => [
  [s, Object.keys(s)],
  ...Object.values(b).map((list) => [list, [...list.keys()]]),
]);
/** How often a counter was reached in one run, coarsely: once, twice, a few times, often. */
const classOf = (count) => (count < 4 ? count : 4 + Math.min(Math.floor(Math.log2(count / 4)), 3));
const seen = new Map(counters.map(([list, keys]) => [list, new Uint16Array(keys.length)]));
let reached = 0;

/** Whether this run has reached something, or often enough, that none before has. */
function isNew() {
  let found = false;
  for (const [list, keys] of counters) {
    const known = seen.get(list);
    for (let index = 0; index < keys.length; index++) {
      const key = keys[index];
      const count = list[key];
      if (count === 0) continue;
      list[key] = 0;
      const bit = 1 << classOf(count);
      if (known[index] & bit) continue;
      if (known[index] === 0) reached += 1;
      known[index] |= bit;
      found = true;
    }
  }
  return found;
}

const random = randomFrom(seed);
const corpus = [];
function run(bytes) {
  try {
    fuzzNames(bytes);
  } catch (error) {
    const file = join(directory, `names-${seed}.bin`);
    writeFileSync(file, bytes);
    console.error(error);
    console.error(`with ${Buffer.from(bytes).toString("hex")}`);
    console.error(`again: npm run fuzz:names -- --input ${relative(process.cwd(), file)}`);
    process.exit(1);
  }
  if (isNew()) corpus.push(bytes);
}

isNew();
for (const bytes of seedsOfNames()) run(bytes);
const started = performance.now();
const total = counters.reduce((sum, [, keys]) => sum + keys.length, 0);
let count = 0;
let told = 0;
for (; count < runs; count++) {
  // What came last is tried more often.
  const index = random() < 0.5 ? random() : 1 - random() ** 3;
  const parent = corpus[Math.min(Math.floor(index * corpus.length), corpus.length - 1)];
  run(mutate(parent, { random, corpus, dictionary: partsOfNames, maxBytes }));
  if (count % 1000 !== 0) continue;
  const passed = (performance.now() - started) / 1000;
  if (passed >= seconds) break;
  if (passed - told >= 10) {
    told = passed;
    console.log(
      `${Math.round(passed)} s: ${count} inputs, ${reached} of ${total} places reached, ${corpus.length} kept`,
    );
  }
}
console.log(
  `${count} inputs in ${Math.round((performance.now() - started) / 1000)} s, seed ${seed}: ${reached} of ${total} places reached, nothing wrong`,
);
