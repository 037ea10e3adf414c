import type { KernelFeature } from "#conformance/kernel-features.ts";
import { attempt } from "./killed.ts";
import type { Kit, Row, Scenario } from "./kit.ts";

/** How many of those that only wait run beside the others. */
const idleJobs = 4;

/** Runs scenarios, `jobs` at a time. A scenario that throws gets a row that says so. */
export async function runScenarios(
  kit: Kit,
  scenarios: readonly Scenario[],
  missing: ReadonlyMap<KernelFeature, string>,
  jobs: number,
  onEnd: (scenario: Scenario, rows: readonly Row[], durationMs: number) => void,
): Promise<readonly Row[]> {
  const all: Row[] = [];
  const waiting = scenarios.map((scenario, index) => ({ scenario, label: `s${index}` }));
  const take = (isIdle: boolean) => {
    const at = waiting.findIndex(({ scenario }) => (scenario.isIdle === true) === isIdle);
    return at < 0 ? undefined : waiting.splice(at, 1)[0];
  };
  const work = async (isIdle: boolean) => {
    for (let next = take(isIdle); next !== undefined; next = take(isIdle)) {
      const { scenario, label } = next;
      const startedMs = performance.now();
      const rows: Row[] = [];
      const { name, needs } = scenario;
      if (needs !== undefined && missing.has(needs)) {
        const skipped = `${needs}: ${missing.get(needs) ?? ""}`;
        const row = { scenario: name, fault: "", followUp: "", reason: "", skipped };
        all.push(row);
        onEnd(scenario, [row], 0);
        continue;
      }
      const note = (fault: string, followUp: string, reason: string) =>
        void rows.push({ scenario: name, fault, followUp, reason });
      const reason = await attempt(() => scenario.run({ kit, label, note }));
      if (reason !== "" || rows.length === 0) note("", "", reason || "nothing was tried");
      all.push(...rows);
      onEnd(scenario, rows, performance.now() - startedMs);
    }
  };
  await Promise.all([
    ...Array.from({ length: jobs }, () => work(false)),
    ...Array.from({ length: idleJobs }, () => work(true)),
  ]);
  return all;
}
