// The kernel tests and the conformance kit on Debian's stock kernel, in a virtual machine: docs/testing-on-a-full-kernel.md.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { findKernel } from "./kernel-image.mjs";
import { runMachine } from "./machine.mjs";
import { pairStep, runPair } from "./pair/run.mjs";
import { allSteps } from "./steps.mjs";
import { judge } from "./verdict.mjs";

const usage = `Usage: npm run test:vm -- [options] [PATH …]

  PATH            kernel tests whose path contains one of them, and nothing else: plugins/ipvlan
  --only STEPS    netd, standalone, faults, tests, pair: some of them only (separate by commas)
  --topics NAMES  topics of the conformance kit, instead of those that a kernel has a say in
  --case TEXT     cases of the conformance kit, kernel tests, and checks of the pair, whose title contains it only
  --tests TEXTS   kernel tests whose path contains one of them only
  --lacking       kernel tests of files in which kernels like this one skip something, and nothing else
  --minutes N     end the VM after N minutes (120)
  --help
`;
const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

function readOptions() {
  const text = { type: "string", default: "" };
  const { values, positionals: paths } = parseArgs({
    allowPositionals: true,
    options: {
      only: text,
      topics: text,
      case: text,
      tests: text,
      lacking: { type: "boolean", default: false },
      minutes: { type: "string", default: "120" },
      help: { type: "boolean", default: false },
    },
  });
  const list = (value) => value.split(",").filter(Boolean);
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new TypeError(`--minutes must be a number: "${String(values.minutes)}"`);
  const only = list(values.only);
  return {
    only: (paths.length > 0 || values.lacking) && only.length === 0 ? ["tests"] : only,
    isLacking: values.lacking,
    topics: list(values.topics),
    case: values.case,
    tests: [...list(values.tests), ...paths],
    limitMs: minutes * 60_000,
    help: values.help,
  };
}

function conformanceTopics() {
  const { stdout, status } = spawnSync(
    process.execPath,
    [join(root, "dist/conformance/main.js"), "--bin", join(root, "dist/bin"), "--list"],
    { encoding: "utf8", maxBuffer: 16 * 1024 * 1024 },
  );
  if (status !== 0) throw new Error("Cannot list the topics of the conformance kit");
  return [...new Set(stdout.split("\n").map((line) => line.split(":")[0] ?? ""))].filter(Boolean);
}

function build(...args) {
  const { status } = spawnSync(process.execPath, ["scripts/build.mjs", ...args], {
    cwd: root,
    stdio: "inherit",
  });
  if (status !== 0) throw new Error(`Cannot build: scripts/build.mjs ${args.join(" ")}`);
}

async function main() {
  const options = readOptions();
  if (options.help) {
    process.stdout.write(usage);
    return 0;
  }
  const kernel = findKernel();
  if (kernel === undefined) throw new Error("Cannot find a kernel: run scripts/ready.mjs vm");
  const steps = [...allSteps(root, conformanceTopics(), options), pairStep];
  const unknown = options.only.find((name) => !steps.some((step) => step.name === name));
  if (unknown !== undefined) throw new TypeError(`Unknown step "${unknown}"`);
  const chosen = steps.filter(({ name }) => options.only.length === 0 || options.only.includes(name));

  if (chosen.some(({ name }) => name === "faults")) build("--faults", "dist/faults");
  const scratch = mkdtempSync(join(tmpdir(), "netctl-vm-"));
  const abort = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => abort.abort());
  const verdicts = [];
  try {
    console.log(`Booting Linux ${kernel.version} without hardware help: this takes a while`);
    const common = { kernel, root, limitMs: options.limitMs, signal: abort.signal };
    const alone = chosen.filter((step) => step !== pairStep);
    if (alone.length > 0) verdicts.push(await runAlone(alone, common, join(scratch, "alone")));
    if (chosen.includes(pairStep) && !abort.signal.aborted)
      verdicts.push(await runBoth({ ...common, text: options.case }, join(scratch, "pair")));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  const verdict = {
    kernel: verdicts[0]?.kernel,
    rows: verdicts.flatMap(({ rows }) => rows),
    wrong: verdicts.flatMap(({ wrong }) => wrong),
  };
  print(verdict);
  return verdict.wrong.length === 0 ? 0 : 1;
}

async function runAlone(steps, common, scratch) {
  const out = join(scratch, "out");
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, "job.json"), JSON.stringify({ steps }));
  const ended = await runMachine({ ...common, out, initramfs: join(scratch, "initramfs.gz") });
  return verdictOf(ended, out, steps);
}

async function runBoth(common, scratch) {
  mkdirSync(scratch);
  const ended = await runPair({ ...common, scratch });
  return verdictOf(ended, join(scratch, "1/out"), [pairStep]);
}

function verdictOf(ended, out, steps) {
  const verdict = judge(out, steps);
  if (ended !== undefined) verdict.wrong.unshift(ended);
  return verdict;
}

function print({ kernel, rows, wrong }) {
  console.log(`\n| Linux ${kernel} | passed | failed | skipped | minutes |\n|---|---|---|---|---|`);
  for (const { title, passed, failed, skipped, seconds } of rows)
    console.log(`| ${title} | ${passed} | ${failed} | ${skipped} | ${(seconds / 60).toFixed(0)} |`);
  console.log("");
  for (const line of wrong) console.log(`FAIL  ${line}`);
  const sum = (key) => rows.reduce((total, row) => total + row[key], 0);
  console.log(`${sum("passed")} passed, ${wrong.length} failed`);
}

main().then(
  (exitCode) => {
    process.exitCode = exitCode;
  },
  (error) => {
    console.error(error instanceof TypeError ? `${error.message}\n\n${usage}` : `test:vm: ${error.message}`);
    process.exitCode = 2;
  },
);
