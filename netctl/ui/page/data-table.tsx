import type { ComponentChildren } from "preact";

/** A table with a heading for each column; says so where it is empty. */
export function DataTable({
  heads,
  rows,
  empty,
}: {
  heads: readonly string[];
  rows: readonly {
    readonly key: string;
    readonly cells: readonly ComponentChildren[];
    readonly tone?: string;
  }[];
  empty: string;
}) {
  if (rows.length === 0) return <p class="waiting">{empty}</p>;
  return (
    <table>
      <thead>
        <tr>
          {heads.map((head) => (
            <th key={head}>{head}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map(({ key, cells, tone }) => (
          <tr key={key} class={tone ?? ""}>
            {cells.map((cell, index) => (
              <td key={index}>{cell}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
