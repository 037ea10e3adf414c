// Everything that must hold before a change lands: the static checks, the tests, and the conformance kit run on
// our own executables. Ends with one line that counts it all; a skip must stand in testing/allowed-skips.json.
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "netctl-test-"));
const count = { passed: 0, failed: 0, skipped: 0 };
const allowed = JSON.parse(readFileSync(join(root, "testing/allowed-skips.json"), "utf8"));
const unexpected = [];
/** What failed, to be said again at the end, where it is seen without scrolling. */
const failures = [];

function run(command, args, environment = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...environment },
  });
  if (error) console.error(`Cannot run ${command}: ${error.message}`);
  return status === 0;
}

function check(title, ok) {
  count[ok ? "passed" : "failed"] += 1;
  if (!ok) failures.push(title);
  console.log(`${ok ? "pass" : "FAIL"}  ${title}`);
}

function skip(name, reason) {
  count.skipped += 1;
  // "no bridge VLAN filtering" is what the list calls bridge-vlan-filtering.
  const words = reason.toLowerCase().replaceAll(" ", "-");
  const isAllowed = Object.keys(allowed).some((feature) => words.includes(feature));
  if (!isAllowed) unexpected.push(`${name}: ${reason}`);
}

/** What is broken fails twice; what a busy machine has starved does not. More than a few are not tried again. */
const secondTries = 3;

function runVitest(...options) {
  const file = join(scratch, "vitest.json");
  rmSync(file, { force: true });
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`];
  const ok = run(process.execPath, ["node_modules/vitest/vitest.mjs", "run", ...reporters, ...options]);
  return existsSync(file) ? { ok, report: JSON.parse(readFileSync(file, "utf8")) } : undefined;
}

function vitest() {
  const first = runVitest();
  if (!first) return check("vitest ran", false);
  const { ok, report } = first;
  count.passed += report.numPassedTests;
  const failed = report.testResults.flatMap(failuresOf);
  for (const { assertionResults, status } of report.testResults) {
    // What a file that fails as a whole did not come to is no skip.
    const skipped =
      status === "failed" && !assertionResults.some(isFailed) ? [] : assertionResults.filter(isSkipped);
    for (const test of skipped) skip(test.fullName, test.meta?.skipReason ?? test.fullName);
  }
  for (const each of failed) {
    const passed = failed.length <= secondTries ? passedAlone(each) : 0;
    if (passed > 0) check(`${each.title} (passed at the second run, alone)`, true);
    else check(`${each.title}\n${firstLines(each.messages)}`, false);
    count.passed += Math.max(passed - 1, 0);
  }
  // An error outside any test has no failed test to count.
  if (!ok && failed.length === 0) check("vitest ended without an error", false);
}

const isFailed = (test) => test.status === "failed";
const isSkipped = (test) => ["pending", "skipped", "todo"].includes(test.status);

/** The tests of a file that failed; or the file, if it failed with none of them, as by a hook of all. */
function failuresOf({ name, status, message, assertionResults }) {
  const file = relative(root, name);
  const tests = assertionResults.filter(isFailed);
  if (tests.length === 0 && status === "failed") return [{ file, title: file, messages: [message] }];
  return tests.map(({ fullName, failureMessages }) => {
    return { file, fullName, title: `${file}: ${fullName}`, messages: failureMessages ?? [] };
  });
}

/** Runs it once more, with nothing beside it. @returns how many tests passed; none if anything failed */
function passedAlone({ file, fullName, title }) {
  console.log(`\n${title}: once more, alone`);
  const exactly = fullName?.replaceAll(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  const again = runVitest(file, "--retry=0", ...(exactly ? ["--testNamePattern", `^${exactly}$`] : []));
  return again?.ok ? again.report.numPassedTests : 0;
}

function firstLines(messages) {
  const lines = messages.join("\n").split("\n");
  return lines
    .slice(0, 12)
    .map((line) => `      ${line.slice(0, 300)}`)
    .join("\n");
}

function runKit(environment, ...options) {
  const file = join(scratch, "conformance.json");
  rmSync(file, { force: true });
  const kit = ["dist/conformance/main.js", "--bin", "dist/bin", "--json", file];
  const ok = run(process.execPath, [...kit, ...options], environment);
  return existsSync(file) ? { ok, results: JSON.parse(readFileSync(file, "utf8")).results } : undefined;
}

function conformance(title, environment) {
  console.log(`\nConformance of our executables, ${title}`);
  const first = runKit(environment, "--fuzz", "200");
  if (!first) return check(`conformance ran (${title})`, false);
  const failed = first.results.filter((entry) => entry.status === "fail");
  count.passed += first.results.filter((entry) => entry.status === "pass").length;
  for (const entry of first.results.filter((one) => one.status === "skip"))
    skip(`${entry.topic}: ${entry.title}`, entry.reason ?? "");
  for (const [index, { topic, title: name, reason }] of failed.entries()) {
    const again = index < secondTries ? runKit(environment, "--only", topic, "--case", name) : undefined;
    const words = `${topic}: ${name} (${title}; at the second try)`;
    check(again?.ok === true ? words : `${words}: ${reason ?? "no reason given"}`, again?.ok === true);
  }
  if (!first.ok && failed.length === 0) check(`conformance ended without an error (${title})`, false);
}

try {
  check("npm run check (types, format, lint, boundaries)", run("npm", ["run", "--silent", "check"]));
  vitest();
  conformance("each call a process of its own", { NETCTL_STANDALONE: "1" });
  conformance("by netd", {});
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
for (const line of unexpected) check(`skipped without leave: ${line}`, false);
if (failures.length > 0) console.log(`\nWhat failed:\n${failures.map((line) => `  ${line}`).join("\n")}\n`);
if (count.skipped > 0)
  console.log(`${count.skipped} skipped; testing/allowed-skips.json says why each may be`);
console.log(`${count.passed} passed, ${count.failed} failed`);
process.exitCode = count.failed === 0 && count.passed > 0 ? 0 : 1;
