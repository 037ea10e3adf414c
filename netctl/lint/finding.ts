import type { Severity } from "#netctl/doctor/finding.ts";

/** Something that is wrong with a configuration, or may be: `netctl lint --json` prints it, docs/lint.md. */
export interface LintFinding {
  /** Of the kind of finding; stays the same from version to version. */
  readonly id: string;
  /** "error": a runtime or a plugin refuses it, or does what nobody means. "warning": it may not do what it says. */
  readonly severity: Severity;
  readonly file: string;
  /** Where it stands, as JSONPath (RFC 9535): `$.plugins[1].capabilities.portMapping`. `$` is the whole file. */
  readonly path: string;
  readonly evidence: string;
  readonly remedy: string;
}

export type Found = Omit<LintFinding, "file">;

/** `$.plugins[0].ipam` and `["ranges", 0]` make `$.plugins[0].ipam.ranges[0]`. */
export function below(base: string, keys: readonly (string | number)[]): string {
  return keys.reduce<string>((path, key) => {
    if (typeof key === "number") return `${path}[${key}]`;
    return /^[A-Za-z_]\w*$/.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`;
  }, base);
}
