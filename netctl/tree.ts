/** One line of a tree and what hangs below it. */
export interface TreeNode {
  readonly text: string;
  readonly children?: readonly TreeNode[];
}

/** Draws trees one below the other, in lines as `tree` does. Ends with a newline unless there are none. */
export function renderTree(roots: readonly TreeNode[]): string {
  return roots
    .map((root) => [root.text, ...branches(root.children ?? [], "")].map((line) => `${line}\n`).join(""))
    .join("");
}

function branches(children: readonly TreeNode[], indent: string): readonly string[] {
  return children.flatMap(({ text, children: below = [] }, index) => {
    const isLast = index === children.length - 1;
    return [
      `${indent}${isLast ? "└─" : "├─"} ${text}`,
      ...branches(below, `${indent}${isLast ? "   " : "│  "}`),
    ];
  });
}
