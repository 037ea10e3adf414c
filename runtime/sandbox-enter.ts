import { existsSync } from "node:fs";
import { join } from "node:path";
import { libDirectory } from "#native/lib-directory.ts";

/** A program to run, and its arguments. */
export interface CommandLine {
  readonly file: string;
  readonly args: readonly string[];
}

/**
 * The command line that runs `command` in a namespace, with the host name and the files of the sandbox
 * (native/sandbox-enter.c). It exits as the command does; 125 if the namespace can't be entered, 126 if the
 * command can't be run, 127 if there is none.
 */
export function enterCommand(
  sandbox: { readonly name: string; readonly hostname?: string | undefined; readonly netns: string },
  filesDirectory: string,
  command: readonly string[],
): CommandLine {
  const file = (flag: string, name: string) => {
    const path = join(filesDirectory, name);
    return existsSync(path) ? [flag, path] : [];
  };
  return {
    file: join(libDirectory(), "sandbox-enter"),
    args: [
      "--netns",
      sandbox.netns,
      "--hostname",
      sandbox.hostname ?? sandbox.name,
      ...file("--hosts", "hosts"),
      ...file("--resolv-conf", "resolv.conf"),
      "--",
      ...command,
    ],
  };
}
