import { MacvlanMode } from "#kernel/child-link.ts";
import { readLinkDetails } from "#kernel/link.ts";
import type { Checking } from "#plugins/interface-driver.ts";
import { attachmentProblems } from "#plugins/interface-problems.ts";
import { parentProblems, planParent } from "#plugins/parent-link.ts";
import type { MacvlanConfig } from "./config.ts";
import { hostAccessProblems } from "./host-access.ts";
import type { Made } from "./made.ts";

/** What of an attachment is not as ADD has made it. */
export function problems(work: Checking<MacvlanConfig, Made>): readonly string[] {
  const { config, key, container, host, made } = work;
  const { link, problems: differences } = attachmentProblems(work, "macvlan");
  const surroundings = { host, container, network: key.network };
  const parent = made?.parent ?? planParent(config.parent, surroundings);
  return [
    ...differences,
    ...(link?.kind === "macvlan" ? modeProblems(work) : []),
    ...parentProblems(parent, link, surroundings),
    ...(made?.hostAccess ? hostAccessProblems(made.hostAccess, host.kernel.namespace) : []),
  ];
}

function modeProblems({ config, ifName, container }: Checking<MacvlanConfig, Made>): readonly string[] {
  const mode = readLinkDetails(container, ifName)?.macvlan?.mode;
  if (mode === MacvlanMode[config.mode]) return [];
  const [name = String(mode)] = Object.entries(MacvlanMode).find(([, number]) => number === mode) ?? [];
  return [`container interface ${JSON.stringify(ifName)} has mode ${name} instead of ${config.mode}`];
}
