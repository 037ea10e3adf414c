import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import type { CniVersion } from "#cni/version.ts";

/** One plugin of a file, and where it stands. */
export interface LintedPlugin {
  readonly type: string;
  readonly json: JsonObject;
  /** `$.plugins[1]`; `$` in a file of a single plugin. */
  readonly path: string;
  /** Type and content of `ipam`; undefined where there is none. */
  readonly ipam?: { readonly type: string; readonly json: JsonObject; readonly path: string } | undefined;
}

/** A file that gives a network. */
export interface LintSubject {
  readonly file: string;
  readonly name: string;
  readonly cniVersion: CniVersion;
  readonly json: JsonObject;
  readonly plugins: readonly LintedPlugin[];
}

/** @param path `$.plugins[1]` */
export function lintedPlugin(json: JsonObject, path: string): LintedPlugin {
  const type = field(json, "type");
  const ipam = field(json, "ipam");
  return {
    type: typeof type === "string" ? type : "",
    json,
    path,
    ...(isJsonObject(ipam)
      ? { ipam: { type: textOf(field(ipam, "type")), json: ipam, path: `${path}.ipam` } }
      : {}),
  };
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Capabilities that are declared `true`. */
export function declared({ json }: LintedPlugin): readonly string[] {
  const capabilities = field(json, "capabilities");
  if (!isJsonObject(capabilities)) return [];
  return Object.entries(capabilities).flatMap(([name, value]) => (value === true ? [name] : []));
}

/** Whether a field is `true`, in whatever case its key is written. */
export function isSet({ json }: { readonly json: JsonObject }, key: string): boolean {
  return field(json, key) === true;
}
