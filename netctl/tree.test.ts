import { expect, it } from "vitest";
import { renderTree } from "./tree.ts";

it("renderTree() draws branches to every child, and none past the last", () => {
  const tree = renderTree([
    {
      text: "a",
      children: [
        { text: "b", children: [{ text: "c" }, { text: "d" }] },
        { text: "e", children: [{ text: "f" }] },
      ],
    },
    { text: "g" },
  ]);
  expect(tree).toBe(["a", "├─ b", "│  ├─ c", "│  └─ d", "└─ e", "   └─ f", "g", ""].join("\n"));
});
