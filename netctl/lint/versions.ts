import { field } from "#cni/json.ts";
import { atLeast, isCniVersion } from "#cni/version.ts";
import { nearestWord } from "#runtime/nearest-word.ts";
import { below, type Found } from "./finding.ts";
import type { LintSubject } from "./subject.ts";

/** Keys of a list (SPEC.md 1.1.0, "Network configuration format"), and `netctl`, where our notes are. */
const listKeys = [
  "cniVersion",
  "cniVersions",
  "name",
  "disableCheck",
  "disableGC",
  "loadOnlyInlinedPlugins",
  "plugins",
  "args",
  "netctl",
  "nerdctlID",
  "nerdctlLabels",
];

/** What stands in the list itself: its version, and keys that nobody reads. */
export function listFindings({ json, cniVersion }: LintSubject): readonly Found[] {
  const findings: Found[] = [];
  const isList = json["plugins"] !== undefined;
  if (field(json, "cniVersion") === undefined && json["cniVersions"] === undefined) {
    findings.push({
      id: "version-missing",
      severity: "warning",
      path: "$",
      evidence:
        'there is no "cniVersion", so it counts as 0.1.0: results without interfaces, no CHECK, no GC',
      remedy: 'add "cniVersion": "1.0.0"',
    });
  } else if (!atLeast(cniVersion, "0.4.0")) {
    findings.push({
      id: "version-old",
      severity: "warning",
      path: "$.cniVersion",
      evidence: `version ${cniVersion} has no CHECK, and its plugins get no previous result on DEL`,
      remedy: 'raise "cniVersion" to 1.0.0, which all plugins since 2021 know',
    });
  } else if (!atLeast(cniVersion, "1.1.0")) {
    findings.push({
      id: "version-without-gc",
      severity: "note",
      path: "$.cniVersion",
      evidence: `version ${cniVersion} has no GC and no STATUS`,
      remedy: 'add "cniVersions": ["1.0.0", "1.1.0"]: runtimes that know no 1.1.0 go on with "cniVersion"',
    });
  }
  const several = json["cniVersions"];
  if (Array.isArray(several)) {
    several.forEach((version: unknown, index) => {
      if (typeof version === "string" && isCniVersion(version)) return;
      findings.push({
        id: "version-unknown",
        severity: "warning",
        path: below("$.cniVersions", [index]),
        evidence: `nobody knows version ${JSON.stringify(version)}`,
        remedy: "remove it",
      });
    });
  }
  if (!isList) return findings;
  for (const key of Object.keys(json)) {
    if (listKeys.includes(key)) continue;
    const near = nearestWord(key, listKeys);
    findings.push({
      id: "field-unknown",
      severity: near === undefined ? "note" : "warning",
      path: below("$", [key]),
      evidence: `no runtime reads "${key}" of a list`,
      remedy: near === undefined ? "remove it, or move it to the plugin that it is for" : `write "${near}"`,
    });
  }
  return findings;
}
