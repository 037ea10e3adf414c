import type { StateAnswer } from "#netctl/ui/answers.ts";
import { DataTable } from "./data-table.tsx";
import { isFound } from "./format.tsx";

export function Ports({ state, search }: { state: StateAnswer; search: string }) {
  const rows = state.topology.namespaces
    .flatMap(({ id, name, ports }) => ports.map((port) => ({ id, name, port })))
    .filter(({ name, port }) => isFound(search, name, port));
  return (
    <DataTable
      heads={["Port of the host", "Container"]}
      empty="no port is published"
      rows={rows.map(({ id, name, port }) => ({ key: `${id} ${port}`, cells: [port, name] }))}
    />
  );
}
