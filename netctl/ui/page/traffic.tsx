import type { StateAnswer } from "#netctl/ui/answers.ts";
import { DataTable } from "./data-table.tsx";
import { isFound, rateText } from "./format.tsx";
import { type History, rateKey } from "./live.tsx";
import { Sparkline } from "./sparkline.tsx";

/** Rates of every interface of every container, the busiest first. */
export function Traffic({
  state,
  history,
  search,
}: {
  state: StateAnswer;
  history: History;
  search: string;
}) {
  const kinds = new Map(state.topology.namespaces.map(({ name, kind }) => [name, kind]));
  const rows = [...history.values()]
    .flatMap((rates) => {
      const now = rates.at(-1);
      return now === undefined ? [] : [{ now, rates }];
    })
    .filter(({ now }) => kinds.has(now.name) && kinds.get(now.name) !== "host")
    .filter(({ now }) => isFound(search, now.name, now.link, now.network, ...now.addresses))
    .sort((a, b) => b.now.rxBytes + b.now.txBytes - a.now.rxBytes - a.now.txBytes);
  return (
    <DataTable
      heads={[
        "Container",
        "Link",
        "Network",
        "Addresses",
        "Received",
        "Sent",
        "Packets/s",
        "Lost/s",
        "Connections",
        "Two minutes",
      ]}
      empty="two looks make a rate: wait for the second"
      rows={rows.map(({ now, rates }) => ({
        key: rateKey(now),
        tone: now.dropped + now.errors > 0 ? "warned" : "",
        cells: [
          now.name,
          now.link,
          now.network ?? "",
          now.addresses.join(" "),
          <span key="received" class="number">
            {rateText(now.rxBytes)}
          </span>,
          <span key="sent" class="number">
            {rateText(now.txBytes)}
          </span>,
          Math.round(now.rxPackets + now.txPackets),
          (now.dropped + now.errors).toFixed(0),
          now.connections ?? "?",
          <Sparkline key="line" values={rates.map(({ rxBytes, txBytes }) => rxBytes + txBytes)} />,
        ],
      }))}
    />
  );
}
