import { ifNameProblem } from "#net/ifname.ts";
import { CniError, ErrorCode } from "./error.ts";
import type { Environment, Verb } from "./plugin.ts";

/** What the CNI_* variables of one call say, checked for form. Empty text where a verb does not need one. */
export interface CniEnvironment {
  readonly verb: Verb;
  readonly containerId: string;
  /** Path, not looked at yet. */
  readonly netns: string;
  readonly ifName: string;
  /** CNI_ARGS as it came. */
  readonly args: string;
  /** Directories of CNI_PATH in order. */
  readonly path: readonly string[];
  /** CNI_NETNS_OVERRIDE: the caller wants the plugin to act in its own namespace. */
  readonly isNetnsOverridden: boolean;
}

interface Problem {
  readonly message: string;
  readonly details: string;
}

interface Variable {
  readonly name: string;
  readonly requiredBy: readonly Verb[];
  /** Verbs that read it, beyond those that require it; its form matters to no other. */
  readonly optionalFor: readonly Verb[];
  readonly problem?: (value: string) => Problem | undefined;
}

const verbs: readonly Verb[] = ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"];

const attachmentVerbs = ["ADD", "CHECK", "DEL"] as const satisfies readonly Verb[];

/**
 * SPEC.md 1.1.0, "Parameters" and the inputs of each verb, in the order in which the reference checks them.
 * CNI_PATH is required where the specification requires it, for GC; who delegates without one fails then.
 */
const variables: readonly Variable[] = [
  { name: "CNI_COMMAND", requiredBy: verbs, optionalFor: [], problem: verbProblem },
  { name: "CNI_CONTAINERID", requiredBy: attachmentVerbs, optionalFor: [], problem: containerIdProblem },
  { name: "CNI_NETNS", requiredBy: ["ADD", "CHECK"], optionalFor: ["DEL"] },
  { name: "CNI_IFNAME", requiredBy: attachmentVerbs, optionalFor: [], problem: ifNameProblem },
  { name: "CNI_ARGS", requiredBy: [], optionalFor: attachmentVerbs },
  { name: "CNI_PATH", requiredBy: ["GC"], optionalFor: ["ADD", "CHECK", "DEL", "STATUS"] },
];

/** Container ids and network names (SPEC.md): they become parts of file names. */
const identifier = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

export function isIdentifier(text: string): boolean {
  return identifier.test(text);
}

function verbProblem(value: string): Problem | undefined {
  return isVerb(value) ? undefined : { message: `unknown CNI_COMMAND: ${value}`, details: "" };
}

function isVerb(text: string): text is Verb {
  return (verbs as readonly string[]).includes(text);
}

function containerIdProblem(value: string): Problem | undefined {
  return isIdentifier(value) ? undefined : { message: "invalid characters in containerID", details: value };
}

/**
 * Checks the variables that the verb needs. A malformed one is reported at once, missing ones together.
 * @throws {CniError} code 4, naming the variables
 */
export function readEnvironment(environment: Environment): CniEnvironment {
  const value = (name: string) => environment[name] ?? "";
  const verb = value("CNI_COMMAND");
  const missing: string[] = [];
  for (const variable of variables) {
    const text = value(variable.name);
    // Without a verb nothing else can be judged.
    const isRequired = variable.name === "CNI_COMMAND" || includes(variable.requiredBy, verb);
    if (text === "") {
      if (isRequired) missing.push(variable.name);
    } else if (isRequired || includes(variable.optionalFor, verb)) {
      const problem = variable.problem?.(text);
      if (problem) {
        throw new CniError(ErrorCode.InvalidEnvironment, problem.message, { details: problem.details });
      }
    }
  }
  if (missing.length > 0 || !isVerb(verb)) {
    throw new CniError(ErrorCode.InvalidEnvironment, `required env variables [${missing.join(",")}] missing`);
  }
  return {
    verb,
    containerId: value("CNI_CONTAINERID"),
    netns: value("CNI_NETNS"),
    ifName: value("CNI_IFNAME"),
    args: value("CNI_ARGS"),
    path: splitPath(value("CNI_PATH")),
    isNetnsOverridden: /^(true|1)$/i.test(value("CNI_NETNS_OVERRIDE")),
  };
}

function includes(list: readonly string[], text: string): boolean {
  return list.includes(text);
}

/** Empty parts, which a shell would take for the current directory, are left out. */
export function splitPath(text: string): readonly string[] {
  return text.split(":").filter((directory) => directory !== "");
}
