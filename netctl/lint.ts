import { access } from "node:fs/promises";
import { basename, dirname, resolve } from "node:path";
import type { Register } from "./command.ts";
import { describeError, ExitCode, Failure } from "./failure.ts";
import { type Io, writeJson } from "./io.ts";
import type { AddressSpace } from "./lint/address-space.ts";
import type { Found, LintFinding } from "./lint/finding.ts";
import { filesToLint, type ReadFile, readForLint } from "./lint/read.ts";
import { findingsOf } from "./lint/rules.ts";
import type { LintSubject } from "./lint/subject.ts";
import { readSubnets } from "./network/conflist.ts";
import { findNetwork } from "./network/listing.ts";
import { subnetsOfHost, subnetsOfNetworks } from "./network/subnet-choice.ts";
import type { World } from "./world.ts";

export interface LintFlags {
  readonly json?: boolean;
}

export const registerLint: Register = (parent, invoke) => {
  parent
    .command("lint")
    .summary("Find what is wrong with network configurations")
    .description(
      "Read network configurations and say what is wrong with them, or may be: order of plugins, fields and capabilities that nobody reads, values that are refused, contradictions, subnets that are taken. Runs no plugin and changes nothing. For every CNI plugin of these names, also the reference's. Exit code 0 if there is at most something to note, 1 else.",
    )
    .argument("[file-or-directory]", "configuration, directory of such, or network; --conf-dir if left out")
    .option("--json", "print JSON: docs/lint.md")
    .addHelpText(
      "after",
      "\nExamples:\n  netctl lint\n  netctl lint ./10-mynet.conflist\n  netctl lint --json /etc/cni/net.d | jq '.findings[] | select(.severity == \"error\")'",
    )
    .action((target: string | undefined, flags: LintFlags, command) =>
      invoke(command, (world) => lint(target, flags, world)),
    );
};

export async function lint(target: string | undefined, { json }: LintFlags, world: World): Promise<ExitCode> {
  const path = await pathOf(target, world);
  const files = await Promise.all((await filesIn(path)).map(readForLint));
  const readers = (await import("#suite/config-readers.ts")).configReaders;
  const neighbours = await readNeighbours(files, world);
  const host = await subnetsOfHost(world);
  const ownBridges = new Set(bridgesIn([...files, ...neighbours]));
  const onHost = host.filter(({ by }) => !ownBridges.has(by));
  const findings: LintFinding[] = files.flatMap(({ file, subject, findings: own }) => {
    const found: readonly Found[] =
      subject === undefined
        ? own
        : [
            ...own,
            ...duplicateFindings(subject, files),
            ...findingsOf(subject, {
              path: world.chain.path,
              readers,
              networks: takenByOthers(subject, [...files, ...neighbours]),
              host: onHost,
            }),
          ];
    return found.map((each) => ({ ...each, file }));
  });
  if (json === true)
    writeJson(world.io, { schema: "netctl.lint/1", files: files.map(({ file }) => file), findings });
  else world.io.stdout(render(findings, files.length, world.io));
  return findings.some(({ severity }) => severity !== "note") ? ExitCode.Failure : ExitCode.Ok;
}

/** What stands there counts before a network of that name. */
async function pathOf(target: string | undefined, world: World): Promise<string> {
  if (target === undefined) return world.directories.conf;
  const path = resolve(world.io.workingDirectory, target);
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  if (isThere || target.includes("/")) return path;
  const network = await findNetwork(world, target).catch(() => undefined);
  if (network === undefined) {
    throw new Failure(
      `Cannot lint ${target}: there is no such file here, and no network of that name in ${world.directories.conf}`,
    );
  }
  return network.configured.path;
}

async function filesIn(path: string): Promise<readonly string[]> {
  try {
    return await filesToLint(path);
  } catch (error) {
    throw new Failure(`Cannot read ${path}: ${describeError(error)}`, { cause: error });
  }
}

/** Of a single file, those beside it, and those of the configuration directory: their subnets are taken. */
async function readNeighbours(files: readonly ReadFile[], world: World): Promise<readonly ReadFile[]> {
  const directories = new Set([...files.map(({ file }) => dirname(file)), world.directories.conf]);
  const own = new Set(files.map(({ file }) => file));
  const others = await Promise.all([...directories].map((each) => filesToLint(each).catch(() => [])));
  const paths = new Set(others.flat().filter((file) => !own.has(file)));
  return (await Promise.all([...paths].map(readForLint))).filter(({ subject }) => subject !== undefined);
}

function duplicateFindings(subject: LintSubject, files: readonly ReadFile[]): readonly Found[] {
  const first = files.find((each) => each.subject?.name === subject.name);
  if (first === undefined || first.file === subject.file) return [];
  return [
    {
      id: "name-twice",
      severity: "error",
      path: "$.name",
      evidence: `${basename(first.file)} is network ${subject.name} already, and comes first: this one is never used`,
      remedy: "give it another name, or remove it",
    },
  ];
}

/** A file of the same network is the same network. */
function takenByOthers({ name }: LintSubject, files: readonly ReadFile[]): AddressSpace["networks"] {
  const others = files.flatMap(({ subject }) =>
    subject === undefined || subject.name === name ? [] : [subject],
  );
  return subnetsOfNetworks(
    others.map((each) => ({ name: each.name, subnets: readSubnets(each.plugins.map(({ json }) => json)) })),
  );
}

/** The host's routes to networks' own bridges are theirs. */
function bridgesIn(files: readonly ReadFile[]): readonly string[] {
  return files.flatMap(({ subject }) =>
    (subject?.plugins ?? []).flatMap(({ type, json }) => {
      if (type !== "bridge") return [];
      const bridge = json["bridge"];
      return [typeof bridge === "string" && bridge !== "" ? bridge : "cni0"];
    }),
  );
}

function render(findings: readonly LintFinding[], count: number, { colors }: Io): string {
  const paint = { error: colors.red, warning: colors.yellow, note: colors.dim };
  const lines = findings.flatMap(({ id, severity, file, path, evidence, remedy }) => [
    `${colors.bold(file)} ${path}`,
    `  ${paint[severity](severity)}  ${id}: ${evidence}`,
    `  remedy: ${remedy}`,
  ]);
  const of = (severity: LintFinding["severity"]) =>
    findings.filter((each) => each.severity === severity).length;
  const summary = `${count} files: ${of("error")} errors, ${of("warning")} warnings, ${of("note")} notes`;
  return [...lines, summary, ""].join("\n");
}
