import { checks } from "#netctl/doctor/checks.ts";
import { type DoctorContext, openContext } from "#netctl/doctor/context.ts";
import type { Check, Finding, Severity } from "#netctl/doctor/finding.ts";
import type { Register } from "./command.ts";
import { describeError, ExitCode, UsageFailure } from "./failure.ts";
import { type Io, writeJson } from "./io.ts";
import { renderTable } from "./table.ts";
import type { World } from "./world.ts";

export interface DoctorFlags {
  readonly json?: boolean;
  readonly list?: boolean;
}

export const registerDoctor: Register = (parent, invoke) => {
  parent
    .command("doctor")
    .summary("Look for what keeps the networks from working")
    .description(
      "Look at the host for what keeps the networks from working, now or soon: other firewalls, sysctls, tables that are full, rules that are missing, what is left of containers that are gone. Changes nothing. Exit code 0 if there is at most something to note, 1 else.",
    )
    .argument("[check...]", "only these checks; all if left out")
    .option("--list", "list the checks")
    .option("--json", "print JSON: docs/doctor.md")
    .action((names: readonly string[], flags: DoctorFlags, command) =>
      invoke(command, (world) => doctor(names, flags, world)),
    );
};

export async function doctor(
  names: readonly string[],
  { json, list }: DoctorFlags,
  world: World,
): Promise<ExitCode> {
  const chosen = chooseChecks(names);
  if (list === true) {
    if (json === true)
      writeJson(
        world.io,
        chosen.map(({ id, summary }) => ({ id, summary })),
      );
    else
      world.io.stdout(
        renderTable(
          ["CHECK", "LOOKS AT"],
          chosen.map(({ id, summary }) => [id, summary]),
        ),
      );
    return ExitCode.Ok;
  }
  const findings = await examine(chosen, world);
  if (json === true) writeJson(world.io, { schema: "netctl.doctor/1", checks: chosen.length, findings });
  else world.io.stdout(render(findings, chosen.length, world.io));
  return findings.some(({ severity }) => severity !== "note") ? ExitCode.Failure : ExitCode.Ok;
}

/** What these checks find, in their order. */
export async function examine(chosen: readonly Check[], world: World): Promise<readonly Finding[]> {
  const context = await openContext(world);
  const findings: Finding[] = [];
  for (const check of chosen) findings.push(...(await carryOut(check, context)));
  return findings;
}

/** @throws {UsageFailure} */
function chooseChecks(names: readonly string[]): readonly Check[] {
  const unknown = names.find((name) => !checks.some(({ id }) => id === name));
  if (unknown !== undefined) {
    throw new UsageFailure(`no check ${unknown}; there are ${checks.map(({ id }) => id).join(", ")}`);
  }
  return names.length === 0 ? checks : checks.filter(({ id }) => names.includes(id));
}

/** What can't be looked at is a finding too, and keeps nobody from looking at the rest. */
async function carryOut(check: Check, context: DoctorContext): Promise<readonly Finding[]> {
  try {
    return await check.run(context);
  } catch (error) {
    return [
      {
        id: `${check.id}-failed`,
        severity: "warning",
        subject: "",
        evidence: `cannot look at ${check.summary}: ${describeError(error)}`,
        remedy: "run it as root, with nft installed",
      },
    ];
  }
}

const order: readonly Severity[] = ["error", "warning", "note"];

function render(findings: readonly Finding[], count: number, { colors }: Io): string {
  const paint = { error: colors.red, warning: colors.yellow, note: colors.dim };
  const lines = order.flatMap((severity) =>
    findings
      .filter((each) => each.severity === severity)
      .flatMap(({ id, subject, evidence, remedy }) => [
        [paint[severity](severity), colors.bold(id), subject].filter(Boolean).join("  "),
        `  ${evidence}`,
        `  remedy: ${remedy}`,
      ]),
  );
  const [errors = 0, warnings = 0, notes = 0] = order.map(
    (severity) => findings.filter((each) => each.severity === severity).length,
  );
  const summary = `${count} checks: ${errors} errors, ${warnings} warnings, ${notes} notes`;
  return [...lines, summary, ""].join("\n");
}
