import { statSync } from "node:fs";
import { socketPath } from "#netd/protocol.ts";
import type { Check } from "./finding.ts";

/** Works without, slower; but nobody puts back what another program takes away. */
export const netd: Check = {
  id: "netd",
  summary: "whether the warm service runs",
  run({ host, records, world }) {
    const path = socketPath(world.directories.run, BigInt(host.ino));
    if (records.length === 0 || statSync(path, { throwIfNoEntry: false })?.isSocket() === true) return [];
    return [
      {
        id: "netd-absent",
        severity: "note",
        subject: path,
        evidence:
          "no netd serves this host, though containers are attached: rules that another program takes away stay away",
        remedy: "deploy/systemd/netctl-netd.socket keeps one running; the next call of a plugin starts one",
      },
    ];
  },
};
