import type { StateAnswer } from "#netctl/ui/answers.ts";
import { DataTable } from "./data-table.tsx";
import { isFound } from "./format.tsx";

export function Networks({ state, search }: { state: StateAnswer; search: string }) {
  const rows = state.networks.filter(({ name, driver, subnets }) =>
    isFound(search, name, driver, ...subnets),
  );
  return (
    <DataTable
      heads={["Network", "Driver", "Subnets", "Attachments", "What does not agree"]}
      empty="no network is configured"
      rows={rows.map(({ name, driver, subnets, attachments, differences }) => ({
        key: name,
        tone: differences.length > 0 ? "warned" : "",
        cells: [name, driver, subnets.join(" "), attachments, differences.join("; ")],
      }))}
    />
  );
}
