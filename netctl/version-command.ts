import { release } from "node:os";
import { cniVersions } from "#cni/version.ts";
import { programFiles } from "#runtime/program-files.ts";
import type { Register } from "./command.ts";
import { ExitCode } from "./failure.ts";
import { writeJson } from "./io.ts";
import { suiteVersion } from "./version.ts";
import type { World } from "./world.ts";

export const registerVersion: Register = (parent, invoke) => {
  parent
    .command("version")
    .summary("Show versions")
    .description(
      "Show the version of netctl, of the CNI specification that its plugins speak, of Node and of the kernel.",
    )
    .option("--json", "print JSON: docs/netctl.md")
    .action((flags: { readonly json?: boolean }, command) =>
      invoke(command, (world) => version(flags, world)),
    );
};

export function version({ json }: { readonly json?: boolean }, world: World): Promise<ExitCode> {
  const found = {
    schema: "netctl.version/1",
    version: suiteVersion,
    cniVersions,
    node: process.versions.node,
    kernel: release(),
    architecture: process.arch,
    library: programFiles().lib,
    plugins: world.directories.bin,
  };
  if (json === true) writeJson(world.io, found);
  else {
    const rows: readonly (readonly [string, string])[] = [
      ["netctl", found.version],
      ["CNI", `${cniVersions[0]} to ${cniVersions.at(-1) ?? ""}`],
      ["Node", found.node],
      ["Linux", `${found.kernel} ${found.architecture}`],
      ["programs", found.library],
      ["plugins", found.plugins],
    ];
    world.io.stdout(rows.map(([name, value]) => `${name.padEnd(10)}${value}\n`).join(""));
  }
  return Promise.resolve(ExitCode.Ok);
}
