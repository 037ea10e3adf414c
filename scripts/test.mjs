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

function vitest() {
  const file = join(scratch, "vitest.json");
  const ok = run(process.execPath, [
    "node_modules/vitest/vitest.mjs",
    "run",
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${file}`,
  ]);
  if (!existsSync(file)) return check("vitest ran", false);
  const report = JSON.parse(readFileSync(file, "utf8"));
  count.passed += report.numPassedTests;
  count.failed += report.numFailedTests;
  for (const suite of report.testResults) {
    for (const test of suite.assertionResults) {
      if (test.status === "failed")
        failures.push(`${relative(root, suite.name)}: ${test.fullName}\n${firstLines(test)}`);
      if (test.status === "pending" || test.status === "skipped" || test.status === "todo") {
        skip(test.fullName, test.meta?.skipReason ?? test.fullName);
      }
    }
  }
  // A file that fails to load, or an error outside any test, has no failed test to count.
  if (!ok && report.numFailedTests === 0) check("vitest ended without an error", false);
}

function firstLines({ failureMessages }) {
  const lines = (failureMessages ?? []).join("\n").split("\n");
  return lines
    .slice(0, 12)
    .map((line) => `      ${line.slice(0, 300)}`)
    .join("\n");
}

/** What is broken fails twice; what a busy machine has starved does not. More than a few are not tried again. */
const secondTries = 3;

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
