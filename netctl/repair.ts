import { setTimeout as sleep } from "node:timers/promises";
import { formatElement } from "#nftables/element.ts";
import type { LinkProblem } from "#suite/link-problems.ts";
import type { AttachmentRepair, Repair } from "#suite/repair.ts";
import type { Register } from "./command.ts";
import { parseDuration } from "./duration.ts";
import { ExitCode } from "./failure.ts";
import { writeJson } from "./io.ts";
import { openSuite } from "./suite-host.ts";
import type { World } from "./world.ts";

/** As netd does. */
const lookAgainMs = 500;

export interface RepairFlags {
  readonly dryRun?: boolean;
  readonly wait?: string;
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
    .option(
      "--wait <time>",
      "how long to look again while an attachment is being made, removed or checked",
      "2s",
    )
    .option("--json", "print JSON: docs/repair.md")
    .action((flags: RepairFlags, command) => invoke(command, (world) => repair(flags, world)));
};

export async function repair(flags: RepairFlags, world: World): Promise<ExitCode> {
  const { dryRun = false, wait = "2s", json } = flags;
  const waitMs = parseDuration(wait, "--wait");
  const suite = await openSuite(world);
  const { host } = suite;
  try {
    let found = await suite.repair(host, { dryRun });
    const endMs = performance.now() + waitMs;
    while (found.unsettled && !dryRun && performance.now() < endMs) {
      await sleep(lookAgainMs);
      found = together(found, await suite.repair(host));
    }
    if (!dryRun && suite.foundAnything(found)) {
      host.log.event({ type: "rules", action: "repair", attributes: suite.repairAttributes(found) });
    }
    const links = await suite.findLinkProblems(host);
    if (json === true) writeJson(world.io, describe(found, links, dryRun));
    else world.io.stdout(render(found, links, dryRun));
    const isWrong =
      found.failed.length > 0 ||
      found.busy.length > 0 ||
      links.length > 0 ||
      (dryRun && suite.foundAnything(found));
    return isWrong ? ExitCode.Failure : ExitCode.Ok;
  } finally {
    await host.close();
  }
}

/** What two looks have put back, and what the later one could not. */
function together(earlier: Repair, later: Repair): Repair {
  return {
    ...later,
    tables: [...earlier.tables, ...later.tables],
    shared: [...earlier.shared, ...later.shared],
    attachments: [...earlier.attachments, ...later.attachments],
  };
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
    busy: found.busy,
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
  for (const { network, containerId, ifName } of found.busy) {
    lines.push(
      `${network} ${containerId} ${ifName}: misses something, and is left alone: it is being worked on`,
    );
  }
  for (const { key, plugin, problem } of links) lines.push(`${nameOf({ key, plugin })}: ${problem}`);
  return [...lines, summary(found, dryRun), ""].join("\n");
}

function nameOf({ key, plugin }: Pick<AttachmentRepair, "key" | "plugin">): string {
  return `${key.network} ${key.containerId} ${key.ifName} (${plugin})`;
}

function summary({ attachments, busy, looked, shared }: Repair, dryRun: boolean): string {
  const elements = attachments.reduce((sum, each) => sum + each.elements.length, shared.length);
  const rules = attachments.reduce((sum, each) => sum + each.rules.length, 0);
  if (elements + rules === 0) {
    return `nothing ${busy.length > 0 ? "was put back" : "is missing"} (${looked} records)`;
  }
  const what = [`${elements} elements`, ...(rules > 0 ? [`${rules} rules`] : [])].join(" and ");
  return `${what} of ${attachments.length} records (of ${looked}) ${dryRun ? "are missing" : "were put back"}`;
}
