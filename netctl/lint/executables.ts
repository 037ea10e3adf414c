import { findPlugin } from "#cni/find-plugin.ts";
import { nearestWord } from "#runtime/nearest-word.ts";
import { pluginFacts } from "./facts.ts";
import type { Found } from "./finding.ts";
import type { LintSubject } from "./subject.ts";

/** Plugins that nobody can start, and those of which nothing is known here. @param path directories of CNI_PATH */
export function executableFindings({ plugins }: LintSubject, path: readonly string[]): readonly Found[] {
  const named = plugins.flatMap((plugin) => [
    { type: plugin.type, path: `${plugin.path}.type`, place: "chain" },
    ...(plugin.ipam === undefined || plugin.ipam.type === ""
      ? []
      : [{ type: plugin.ipam.type, path: `${plugin.ipam.path}.type`, place: "ipam" }]),
  ]);
  return named.flatMap((each): Found[] => {
    const facts = pluginFacts.get(each.type);
    if (!isThere(each.type, path)) {
      const near = facts === undefined ? nearestWord(each.type, [...pluginFacts.keys()]) : undefined;
      return [
        {
          id: "plugin-missing",
          severity: "error",
          path: each.path,
          evidence: `there is no executable ${JSON.stringify(each.type)} in ${path.join(", ")}`,
          remedy: near === undefined ? "install it there, or give --bin-dir" : `write "${near}"`,
        },
      ];
    }
    if (facts === undefined) {
      return [
        {
          id: "plugin-unknown",
          severity: "note",
          path: each.path,
          evidence: `${each.type} is no plugin that is known here: its fields and capabilities were not looked at`,
          remedy: "look into its own documentation",
        },
      ];
    }
    if (each.place === "ipam" && facts.place !== "ipam") {
      return [
        {
          id: "ipam-type",
          severity: "error",
          path: each.path,
          evidence: `${each.type} gives out no addresses`,
          remedy: "write host-local, static or dhcp",
        },
      ];
    }
    return [];
  });
}

function isThere(type: string, path: readonly string[]): boolean {
  try {
    findPlugin(type, path);
    return true;
  } catch {
    return false;
  }
}
