/** Versions of the CNI specification that the suite speaks, oldest first (SPEC.md, "Version"). */
export const cniVersions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;

export type CniVersion = (typeof cniVersions)[number];

/** A missing or empty `cniVersion` means this one. */
export const oldestVersion: CniVersion = "0.1.0";
export const newestVersion: CniVersion = "1.1.0";

/** Matches by exact text, as the specification asks. */
export function isCniVersion(text: string): text is CniVersion {
  return (cniVersions as readonly string[]).includes(text);
}

/** True if `version` is `minimum` or newer. */
export function atLeast(version: CniVersion, minimum: CniVersion): boolean {
  return cniVersions.indexOf(version) >= cniVersions.indexOf(minimum);
}
