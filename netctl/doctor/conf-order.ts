import { basename } from "node:path";
import type { Check, Finding } from "./finding.ts";

/** Of two files that give one network, or are looked for first, one is not used: seldom the one that was meant. */
export const confOrder: Check = {
  id: "conf",
  summary: "configuration files that give no network, or hide another",
  run({ networks, confProblems, world }) {
    const findings = confProblems.map(({ path, error }): Finding => {
      const isDouble = /is defined in .* already$/u.test(error.message);
      return {
        id: isDouble ? "conf-duplicate" : "conf-unusable",
        severity: "warning",
        subject: path,
        evidence: error.message,
        remedy: isDouble ? "rename one of the networks, or remove the file" : "mend or remove the file",
      };
    });
    // By name of the file, whatever its ending: as containerd's CRI plugin looks, which takes the first (max_conf_num = 1).
    const files = networks
      .map(({ configured, name, notes }) => ({ file: basename(configured.path), name, notes }))
      .sort((a, b) => (a.file < b.file ? -1 : 1));
    const [first] = files;
    if (first && files.length > 1) {
      findings.push({
        id: "conf-first",
        severity: "note",
        subject: world.directories.conf,
        evidence: `a runtime that takes one network, as containerd for Kubernetes, takes ${first.name} (${first.file}), the first of ${files.length} by name of the file`,
        remedy: "give the file of the network that is meant the lowest name, such as 05-NAME.conflist",
      });
    }
    return findings;
  },
};
