import type { KernelFeature } from "#conformance/kernel-features.ts";
import { attempt } from "./killed.ts";
import type { Kit, Row, Scenario } from "./kit.ts";

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
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
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
  await Promise.all(Array.from({ length: jobs }, work));
  return all;
}
