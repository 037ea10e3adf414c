import { expect, it } from "vitest";
import { renderTable } from "./table.ts";

it("renderTable() lines columns up and leaves no blanks at the ends of lines", () => {
  expect(
    renderTable(
      ["NAME", "DRIVER", "SUBNET"],
      [
        ["web", "bridge", "10.1.0.0/24"],
        ["backend-db", "none", ""],
      ],
    ),
  ).toBe(
    ["NAME         DRIVER   SUBNET", "web          bridge   10.1.0.0/24", "backend-db   none", ""].join("\n"),
  );
});
