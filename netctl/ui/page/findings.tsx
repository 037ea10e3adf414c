import type { FindingsAnswer } from "#netctl/ui/answers.ts";
import { DataTable } from "./data-table.tsx";
import { isFound } from "./format.tsx";
import { useAnswer } from "./use-answer.tsx";

const intervalMs = 30_000;

/** What netctl doctor finds. */
export function Findings({ search }: { search: string }) {
  const { answer, problem } = useAnswer<FindingsAnswer>("/api/findings", intervalMs);
  if (answer === undefined)
    return <p class="waiting">{problem === "" ? "the doctor is looking" : problem}</p>;
  const rows = answer.findings.filter(({ subject, evidence, id }) => isFound(search, subject, evidence, id));
  return (
    <DataTable
      heads={["", "About", "What was seen", "What helps"]}
      empty="the doctor finds nothing"
      rows={rows.map(({ id, severity, subject, evidence, remedy }) => ({
        key: `${id} ${subject} ${evidence}`,
        tone: severity === "note" ? "" : "warned",
        cells: [severity, subject, evidence, <code key="remedy">{remedy}</code>],
      }))}
    />
  );
}
