import * as v from "valibot";
import { field } from "#cni/json.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import { unknownFields } from "#cni/schema-fields.ts";
import { nearestWord } from "#runtime/nearest-word.ts";
import { below, type Found } from "./finding.ts";
import type { LintedPlugin, LintSubject } from "./subject.ts";

/** As `suite/config-readers.ts` has them. */
interface Reader {
  readonly schema: v.GenericSchema;
  readonly parse: (network: NetworkConfig) => unknown;
}
export type Readers = Readonly<Record<"interfaces" | "chained" | "ipam", Readonly<Record<string, Reader>>>>;

/** Fields that every plugin may have, or that the runtime puts there. */
const common = [
  "type",
  "name",
  "cniVersion",
  "capabilities",
  "runtimeConfig",
  "args",
  "prevResult",
  "ipam",
  "dns",
];
/** Read apart from the others, by every verb. */
const ipamCommon = ["type", "dataDir"];

/** Fields that a plugin does not read, and values that it refuses: by its own schema, and its own reading. */
export function fieldFindings(subject: LintSubject, readers: Readers): readonly Found[] {
  return subject.plugins.flatMap((plugin) => {
    const reader = readers.interfaces[plugin.type] ?? readers.chained[plugin.type];
    const own =
      reader === undefined
        ? []
        : [
            ...strangers(reader, plugin.json, plugin.path, common),
            ...refusals(reader, plugin.json, plugin.path, subject, plugin),
          ];
    return [...own, ...ipamFindings(plugin, subject, readers)];
  });
}

function ipamFindings(plugin: LintedPlugin, subject: LintSubject, readers: Readers): readonly Found[] {
  const { ipam } = plugin;
  if (ipam === undefined) return [];
  const reader = readers.ipam[ipam.type];
  if (reader === undefined) return [];
  return [
    ...strangers(reader, ipam.json, ipam.path, ipamCommon),
    ...refusals(reader, ipam.json, ipam.path, subject, plugin),
  ];
}

function strangers(
  { schema }: Reader,
  json: LintedPlugin["json"],
  base: string,
  others: readonly string[],
): readonly Found[] {
  return unknownFields(schema, json).flatMap(({ path, known }): Found[] => {
    const name = String(path.at(-1));
    // Of which an interface plugin asks the type alone: the IPAM plugin reads the rest.
    if (path.length > 1 && String(path[0]).toLowerCase() === "ipam") return [];
    if (path.length === 1 && others.some((each) => each.toLowerCase() === name.toLowerCase())) return [];
    const near = nearestWord(name, path.length === 1 ? [...known, ...others] : known);
    return [
      {
        id: "field-unknown",
        severity: near === undefined ? "note" : "warning",
        path: below(base, path),
        evidence: `nobody reads "${name}" here: it has no effect`,
        remedy: near === undefined ? "remove it" : `write "${near}"`,
      },
    ];
  });
}

function refusals(
  { schema, parse }: Reader,
  json: LintedPlugin["json"],
  base: string,
  subject: LintSubject,
  plugin: LintedPlugin,
): readonly Found[] {
  const outcome = v.safeParse(schema, json);
  if (!outcome.success) {
    return outcome.issues.map((issue): Found => {
      const keys = (issue.path ?? []).flatMap(({ key }) =>
        typeof key === "string" || typeof key === "number" ? [key] : [],
      );
      return refusal(below(base, keys), issue.input === undefined ? "it is missing" : sentenceOf(issue));
    });
  }
  try {
    parse(networkOf(subject, plugin));
    return [];
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    // Ours name the field first.
    const [, named] = /: "?(\w+)"?/.exec(message) ?? [];
    const isField = named !== undefined && field(json, named) !== undefined;
    return [refusal(isField ? below(base, [named]) : base, message)];
  }
}

function sentenceOf({ input, message }: v.BaseIssue<unknown>): string {
  return message.startsWith("Cannot ") ? message : `${JSON.stringify(input)} ${message}`;
}

function refusal(path: string, evidence: string): Found {
  return {
    id: "value",
    severity: "error",
    path,
    evidence,
    remedy: "mend it: every ADD fails with code 7",
  };
}

function networkOf({ name, cniVersion }: LintSubject, { type, json }: LintedPlugin): NetworkConfig {
  return { name, cniVersion, type, json, runtimeConfig: {}, cniArgs: {} };
}
