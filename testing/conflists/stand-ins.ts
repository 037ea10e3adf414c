import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { goBin, ourBin } from "#testing/clients/chain-runner.ts";

/** What the projects' own plugins do for a pod, as far as the chain behind them can tell. */
const script = `#!${process.execPath}
const { readFileSync } = require("node:fs");
const { basename } = require("node:path");
const { spawnSync } = require("node:child_process");
const config = JSON.parse(readFileSync(0, "utf8") || "{}");
const type = basename(process.argv[1]);
const { name, cniVersion, prevResult, delegate } = config;
// As Go plugins that know neither of them answer.
if (["GC", "STATUS"].includes(process.env.CNI_COMMAND)) process.exit(0);
const routes = [{ dst: "0.0.0.0/0" }];
if (type === "egress-cni") {
  if (process.env.CNI_COMMAND === "ADD") process.stdout.write(JSON.stringify(prevResult));
  process.exit(0);
}
// flannel: https://github.com/flannel-io/cni-plugin, README. The others route a veth of their own to the pod.
const made = type === "flannel"
  ? { name, cniVersion, type: "bridge", isGateway: true, ipMasq: false, mtu: 1450, ...delegate,
      ipam: { type: "host-local", ranges: [[{ subnet: "10.244.7.0/24" }]], routes: [{ dst: "10.244.0.0/16" }] } }
  : { name, cniVersion, type: "ptp", ipam: { type: "host-local", subnet: "10.244.8.0/24", routes } };
const file = (type === "flannel" ? ${JSON.stringify(ourBin)} : ${JSON.stringify(goBin)}) + "/" + made.type;
const { status, stdout, stderr } = spawnSync(file, [], { input: JSON.stringify({ ...made, prevResult }) });
process.stderr.write(stderr);
process.stdout.write(stdout);
process.exit(status);
`;

/** Plugins that are neither ours nor of the reference suite. */
export const foreignTypes = ["flannel", "calico", "aws-cni", "egress-cni", "cilium-cni"] as const;

/** Writes the stand-ins. @returns their folder, for CNI_PATH */
export function writeStandIns(directory: string): string {
  const bin = join(directory, "stand-ins");
  mkdirSync(bin);
  for (const type of foreignTypes) writeFileSync(join(bin, type), script, { mode: 0o755 });
  return bin;
}
