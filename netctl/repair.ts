import { formatElement } from "#nftables/element.ts";
import type { LinkProblem } from "#suite/link-problems.ts";
import type { AttachmentRepair, Repair } from "#suite/repair.ts";
import type { Register } from "./command.ts";
import { ExitCode } from "./failure.ts";
import { writeJson } from "./io.ts";
import { openSuite } from "./suite-host.ts";
import type { World } from "./world.ts";

export interface RepairFlags {
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export const registerRepair: Register = (parent, invoke) => {
  parent
    .command("repair")
    .summary("Put back what was taken away of the attachments' rules")
    .description(
      "Put back nftables rules and elements of all attachments that another program has taken away, as by nft flush ruleset, and say what it was. netd does so by itself while it runs. Links and addresses that are missing are named, and not put back.",
    )
    .option("-n, --dry-run", "only say what is missing; exit code 1 if anything is")
    .option("--json", "print JSON: docs/repair.md")
    .action((flags: RepairFlags, command) => invoke(command, (world) => repair(flags, world)));
};

export async function repair({ dryRun = false, json }: RepairFlags, world: World): Promise<ExitCode> {
  const suite = await openSuite(world);
  const { host } = suite;
  try {
    const found = await suite.repair(host, { dryRun });
    if (!dryRun && suite.foundAnything(found)) {
      host.log.event({ type: "rules", action: "repair", attributes: suite.repairAttributes(found) });
    }
    const links = await suite.findLinkProblems(host);
    if (json === true) writeJson(world.io, describe(found, links, dryRun));
    else world.io.stdout(render(found, links, dryRun));
    const isWrong = found.failed.length > 0 || links.length > 0 || (dryRun && suite.foundAnything(found));
    return isWrong ? ExitCode.Failure : ExitCode.Ok;
  } finally {
    await host.close();
  }
}

function describe(found: Repair, links: readonly LinkProblem[], dryRun: boolean) {
  return {
    schema: "netctl.repair/1",
    dryRun,
    attachments: found.looked,
    tables: found.tables,
    shared: found.shared.map(formatElement),
    repaired: found.attachments.map(({ key, plugin, elements, rules }) => ({
      ...key,
      plugin,
      elements: elements.map(formatElement),
      rules,
    })),
    failed: found.failed.map(({ key, plugin, reason }) => ({
      ...(key ?? { network: "", containerId: "", ifName: "" }),
      plugin: plugin ?? "",
      reason,
    })),
    links: links.map(({ key, plugin, problem }) => ({ ...key, plugin, problem })),
  };
}

function render(found: Repair, links: readonly LinkProblem[], dryRun: boolean): string {
  const verb = dryRun ? "missing" : "put back";
  const lines: string[] = [];
  for (const { family, was } of found.tables) {
    lines.push(`table ${family} netctl is ${was}${dryRun ? "" : ": loaded anew"}`);
  }
  for (const element of found.shared) lines.push(`${verb}: ${formatElement(element)}`);
  for (const each of found.attachments) {
    const texts = [...each.elements.map(formatElement), ...each.rules];
    lines.push(nameOf(each), ...texts.map((text) => `  ${verb}: ${text}`));
  }
  for (const { key, plugin, reason } of found.failed) {
    lines.push(`${key ? `${nameOf({ key, plugin: plugin ?? "" })}: ` : ""}cannot be put back: ${reason}`);
  }
  for (const { key, plugin, problem } of links) lines.push(`${nameOf({ key, plugin })}: ${problem}`);
  return [...lines, summary(found, dryRun), ""].join("\n");
}

function nameOf({ key, plugin }: Pick<AttachmentRepair, "key" | "plugin">): string {
  return `${key.network} ${key.containerId} ${key.ifName} (${plugin})`;
}

function summary({ attachments, looked, shared }: Repair, dryRun: boolean): string {
  const elements = attachments.reduce((sum, each) => sum + each.elements.length, shared.length);
  const rules = attachments.reduce((sum, each) => sum + each.rules.length, 0);
  if (elements + rules === 0) return `nothing is missing (${looked} records)`;
  const what = [`${elements} elements`, ...(rules > 0 ? [`${rules} rules`] : [])].join(" and ");
  return `${what} of ${attachments.length} records (of ${looked}) ${dryRun ? "are missing" : "were put back"}`;
}
