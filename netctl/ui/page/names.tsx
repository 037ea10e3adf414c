import type { NamesAnswer, StateAnswer } from "#netctl/ui/answers.ts";
import { DataTable } from "./data-table.tsx";
import { isFound } from "./format.tsx";
import { useAnswer } from "./use-answer.tsx";

const intervalMs = 5000;

/** What containers find by name. */
export function Names({ state, search }: { state: StateAnswer; search: string }) {
  const { answer, problem } = useAnswer<NamesAnswer>("/api/names", intervalMs);
  if (answer?.report == null) return <p class="waiting">{answer?.problem ?? problem}</p>;
  const nameOf = (containerId: string) =>
    state.topology.namespaces.find(({ containerIds }) => containerIds.includes(containerId))?.name ??
    containerId.slice(0, 12);
  const rows = answer.report.containers.flatMap((container) =>
    container.networks.map(({ network, names, addresses }) => ({
      key: `${container.containerId} ${network}`,
      tone: container.problem === undefined || container.problem === "" ? "" : "warned",
      cells: [
        nameOf(container.containerId),
        network,
        names.join(" "),
        addresses.map((each) => each.replace(/\/.*/, "")).join(" "),
        container.problem || container.state,
        `${container.queries} / ${container.failures}`,
      ],
    })),
  );
  return (
    <DataTable
      heads={["Container", "Network", "Names", "Addresses", "State", "Questions / failed"]}
      empty="no container has names"
      rows={rows.filter(({ cells }) => isFound(search, ...cells.map(String)))}
    />
  );
}
