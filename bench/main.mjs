// npm run bench: ours and the peer in one run, block by block in turn, and the kernel's own time beside them.
// docs/performance.md says what the figures mean.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { cases } from "./cases.mjs";
import { buildDriver } from "./driver.mjs";
import { inOrder, mergeFigures } from "./figures.mjs";
import { markdownTable, rowsOf, textTable, writePage } from "./report.mjs";
import { rest } from "./rest.mjs";
import { Measurement } from "./statistics.mjs";
import { filesystemOf, makeScratch, missingExecutables, Subject, titles } from "./subjects.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const usage = `npm run bench -- [options]
  --case NAME       only this case; may be given several times, and may end with * (--list shows the names)
  --full            also the cases with many containers present, which take the peer long
  --n COUNT         calls measured for each subject and verb (50)
  --quick           5 of each, to see that it works
  --subjects LIST   of ours,standalone,peer,floor
  --bin FOLDER      our executables (dist/bin)
  --peer FOLDER     the peer's (/usr/lib/cni)
  --json FILE       all figures, also of each plugin in a chain
  --write           puts the cases measured into docs/performance.md, beside those measured before
  --section NAME    the table of this run alone, into that section of it: ports
  --list            names of the cases`;

const blockSize = 10;
const say = (line) => console.log(line);
const stop = new AbortController();

function readOptions() {
  const { values } = parseArgs({
    options: {
      case: { type: "string", multiple: true },
      full: { type: "boolean", default: false },
      n: { type: "string" },
      quick: { type: "boolean", default: false },
      subjects: { type: "string", default: Object.keys(titles).join(",") },
      bin: { type: "string", default: join(root, "dist/bin") },
      peer: { type: "string", default: "/usr/lib/cni" },
      json: { type: "string" },
      write: { type: "boolean", default: false },
      section: { type: "string" },
      list: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const count = Number(values.n ?? (values.quick ? 5 : 50));
  if (!Number.isInteger(count) || count < 1)
    throw new Error(`Cannot measure "${values.n}" calls: a whole number above 0 is needed`);
  const subjects = values.subjects.split(",");
  for (const name of subjects) {
    if (!(name in titles))
      throw new Error(`Unknown subject "${name}": ${Object.keys(titles).join(", ")} are known`);
  }
  const bin = resolve(values.bin);
  return { ...values, count, subjects, folders: { ours: bin, standalone: bin, peer: resolve(values.peer) } };
}

function chosenCases({ case: patterns, full }) {
  if (!patterns) return cases.filter((one) => full || !one.full);
  const matches = (name, pattern) =>
    pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
  const chosen = cases.filter(({ name }) => patterns.some((pattern) => matches(name, pattern)));
  const wrong = patterns.find((pattern) => !cases.some(({ name }) => matches(name, pattern)));
  if (wrong !== undefined) throw new Error(`Unknown case "${wrong}": --list shows them`);
  return chosen;
}

class Skipped extends Error {}

/** Those who are measured in a case. Throws `Skipped` where that can't be. */
function subjectsOf(benchCase, { subjects, folders }) {
  const chosen = benchCase.subjects.filter((name) => subjects.includes(name));
  for (const name of chosen) {
    if (name === "floor") continue;
    const missing = missingExecutables(folders[name], benchCase.executables);
    if (missing.length > 0) throw new Skipped(`${folders[name]} has no ${missing.join(", ")}`);
  }
  if (chosen.every((name) => name === "floor") && !subjects.every((name) => name === "floor")) {
    throw new Skipped(`it measures ${benchCase.subjects.join(", ")} only`);
  }
  return chosen;
}

/** Sets a subject up, until it is ready to be measured; undefined where it would be the same as another. */
async function prepare(name, benchCase, chosen, folders, scratch, drivers) {
  const subject = await Subject.start({ name, benchCase, scratch, folders });
  drivers.push(subject.driver);
  stop.signal.throwIfAborted();
  await subject.warmUp();
  // Without a warm service "ours" is what "standalone" is, and is measured under that name.
  if (name === "ours" && chosen.includes("standalone") && (await subject.services()).length === 0)
    return undefined;
  await subject.fill();
  return subject;
}

/** How long to wait at most until containers that were just made, or removed, no longer keep the kernel busy. */
const restMs = ({ existing }) => Math.min(60_000, existing * 50);

async function measure(benchCase, chosen, options, scratch) {
  const measurement = new Measurement();
  const notes = [];
  const drivers = [];
  const cancel = () => drivers.map((driver) => driver.cancel());
  stop.signal.addEventListener("abort", cancel);
  try {
    let running = [];
    for (const name of chosen) {
      const subject = await prepare(name, benchCase, chosen, options.folders, scratch, drivers);
      if (!subject) continue;
      running.push(subject);
      notes.push(...(await subject.describeServices("before")));
    }
    if (benchCase.existing > 0) {
      const busy = await rest(restMs(benchCase), stop.signal);
      if (busy > 0.3)
        notes.push(
          `the machine was ${Math.round(busy * 100)} % busy before the first call: read these figures with care`,
        );
    }
    const count = options.n === undefined ? (benchCase.count ?? options.count) : options.count;
    const size =
      benchCase.block ?? (benchCase.mode === "burst" ? 3 * benchCase.parallel : Math.min(blockSize, count));
    for (let done = 0; done < count; done += size) {
      for (const subject of running) {
        stop.signal.throwIfAborted();
        measurement.add(subject.name, await subject.block(size));
      }
      // Each takes its turn at being first.
      running = [...running.slice(1), ...running.slice(0, 1)];
    }
    let failed = false;
    for (const subject of running) {
      notes.push(...(await subject.describeServices("after")));
      const failures = measurement.failures(subject.name);
      if (failures.length === 0) continue;
      failed = true;
      notes.push(
        `${titles[subject.name]}: ${failures.length} calls failed; the first: ${failures[0]}\n${subject.driver.errorLog()}`.trim(),
      );
    }
    return { ...benchCase, measurement, notes, failed };
  } finally {
    stop.signal.removeEventListener("abort", cancel);
    await Promise.all(drivers.map((driver) => (stop.signal.aborted ? driver.cancel() : driver.stop())));
    await rest(restMs(benchCase), stop.signal);
  }
}

function describeMachine(scratch) {
  const model = /model name\s*:\s*(.*)/.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? process.arch;
  return `Linux ${release()}, ${cpus().length} x ${model}, Node ${process.versions.node}, state on ${filesystemOf(scratch)}`;
}

function describePeer(folder) {
  const { stdout } = spawnSync(
    "dpkg-query",
    ["-W", "-f", "${Package} ${Version}", "containernetworking-plugins"],
    { encoding: "utf8" },
  );
  return folder === "/usr/lib/cni" && stdout ? `Debian ${stdout}` : folder;
}

/** All cases that were ever measured, each as it was measured last. */
function writeReport(figures) {
  const { rows, remarks, origins } = inOrder(
    figures,
    cases.map(({ name }) => name),
  );
  const [[origin] = []] = origins;
  const heading =
    origins.length === 1
      ? `${origin}.`
      : origins.map(([text, titles]) => `- ${text}: ${titles.join("; ")}`).join("\n");
  const legend = "Times in ms, median / p95.";
  writePage(
    join(root, "docs/performance.md"),
    [heading, legend, markdownTable(rows), remarks.join("\n")].join("\n\n"),
  );
}

async function main() {
  const options = readOptions();
  if (options.help) return say(usage);
  if (options.list)
    return cases.forEach(({ name, title, full }) =>
      say(`${name.padEnd(12)} ${title}${full ? " (--full)" : ""}`),
    );
  if (process.getuid() !== 0)
    throw new Error("Root is needed to make network namespaces; run the same command with sudo");
  if (!existsSync(options.folders.ours) && options.subjects.includes("ours")) {
    say(`${options.folders.ours} is not there: only the peer and the kernel are measured`);
    options.subjects = options.subjects.filter((name) => name === "peer" || name === "floor");
  }
  buildDriver();
  const scratch = makeScratch();
  const machine = describeMachine(scratch.path);
  const peer = describePeer(options.folders.peer);
  say(`${machine}\nGo plugins: ${peer}\nTimes in ms, median / p95 of ${options.count}\n`);
  const results = [];
  let failed = false;
  try {
    for (const benchCase of chosenCases(options)) {
      const from = Date.now();
      try {
        const chosen = subjectsOf(benchCase, options);
        const result = await measure(benchCase, chosen, options, scratch.path);
        results.push(result);
        failed ||= result.failed;
        say(`measured ${benchCase.name} (${Math.round((Date.now() - from) / 1000)} s)`);
        for (const note of result.notes) say(`         ${note.replaceAll("\n", "\n         ")}`);
      } catch (error) {
        if (stop.signal.aborted) throw error;
        if (error instanceof Skipped) {
          say(`skipped  ${benchCase.name}: ${error.message}`);
          continue;
        }
        failed = true;
        say(`FAILED   ${benchCase.name}: ${error.message}`);
      }
    }
  } finally {
    scratch.remove();
  }
  const rows = results.flatMap(rowsOf);
  if (rows.length > 0) say(`\n${textTable(rows)}`);
  if (options.json) {
    const figures = rows.map((row) => ({ ...row, cells: undefined }));
    const notes = Object.fromEntries(results.map(({ name, notes }) => [name, notes]));
    writeFileSync(
      options.json,
      `${JSON.stringify({ machine, peer, date: new Date().toISOString(), count: options.count, rows: figures, notes }, null, 2)}\n`,
    );
  }
  if (options.write && rows.length > 0) {
    if (options.section !== undefined) {
      const command = ["npm run bench --", ...process.argv.slice(2)].join(" ");
      const heading = `\`${command}\`, ${new Date().toISOString().slice(0, 10)}\\\n${machine}\\\nGo plugins: ${peer}. Times in ms, median / p95 of ${options.n === undefined ? `${options.count}, or of fewer where the case says so` : options.count}.`;
      const remarks = results.flatMap(({ title, notes }) =>
        notes.map((note) => `- ${title}: ${note.split("\n")[0]}`),
      );
      writePage(
        join(root, "docs/performance.md"),
        [heading, markdownTable(rows), remarks.join("\n")].join("\n\n"),
        options.section,
      );
    } else {
      const how = { machine, peer, date: new Date().toISOString().slice(0, 10), count: options.count };
      writeReport(mergeFigures(join(root, "docs/performance.json"), results, rows, how));
    }
    say("\nWritten to docs/performance.md");
  }
  if (failed) process.exitCode = 1;
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    process.exitCode = 130;
    stop.abort(new Error(`Ended by ${signal}`));
  });
}
main().catch((error) => {
  console.error(error.message);
  process.exitCode ||= 1;
});
