// Reads what the steps have left, and says what is wrong with it. A skip is wrong as well, since a full kernel has all
// that the tests need; allowed-skips.json lists the exceptions with the reason for each.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const allowed = JSON.parse(readFileSync(new URL("allowed-skips.json", import.meta.url), "utf8"));
const isAllowed = (text) => Object.keys(allowed).some((part) => text.includes(part));

/**
 * @returns {{ rows: object[], wrong: string[] }} a row for each step with its counts, and every reason to fail
 */
export function judge(out, steps) {
  const ended = readJson(join(out, "ended.json"));
  const wrong = [];
  const rows = steps.map(({ name, title, text = "" }) => {
    const end = ended?.steps.find((each) => each.name === name);
    // vitest lists tests that were not asked for as skipped.
    const results = read[name](readJson(join(out, `${name}.json`))).filter((each) =>
      each.title.includes(text),
    );
    const failed = results.filter(({ status }) => status === "fail");
    const skipped = results.filter(({ status }) => status === "skip");
    const passed = results.length - failed.length - skipped.length;
    for (const result of failed) wrong.push(`${title}: ${result.title} failed`);
    for (const result of skipped) {
      if (!isAllowed(`${result.title} ${result.reason}`))
        wrong.push(`${title}: ${result.title} was skipped: ${result.reason || "no reason given"}`);
    }
    if (end === undefined) wrong.push(`${title}: did not end`);
    else if (end.exit !== 0 && failed.length === 0) wrong.push(`${title}: ended with ${end.exit}`);
    if (passed === 0) wrong.push(`${title}: nothing passed`);
    return { title, passed, failed: failed.length, skipped: skipped.length, seconds: end?.seconds ?? 0 };
  });
  return { kernel: ended?.kernel ?? "no kernel that answered", rows, wrong };
}

const conformanceResults = (report) =>
  (report?.results ?? []).map(({ topic, title, status, reason }) => ({
    title: `${topic}: ${title}`,
    status,
    reason,
  }));

const vitestStatus = { passed: "pass", failed: "fail" };

const read = {
  netd: conformanceResults,
  standalone: conformanceResults,
  pair: (results) => results ?? [],
  faults: (rows) =>
    (rows ?? []).map(({ scenario, fault, followUp, reason, skipped }) => ({
      title: [scenario, fault, followUp].filter(Boolean).join(", "),
      status: skipped === undefined ? (reason === "" ? "pass" : "fail") : "skip",
      reason: skipped ?? reason,
    })),
  tests: (report) =>
    (report?.testResults ?? []).flatMap(({ assertionResults }) =>
      assertionResults.map(({ fullName, status }) => ({
        title: fullName,
        status: vitestStatus[status] ?? "skip",
        reason: "",
      })),
    ),
};

function readJson(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined;
}
