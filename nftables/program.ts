import { accessSync, constants } from "node:fs";
import { join } from "node:path";

/** Where the firewall programs are on distributions whose PATH, as a container runtime gives it, lacks sbin. */
const usualDirectories = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/** A dump of 10,000 elements is about 1 MB. */
const maxOutputBytes = 512 * 1024 * 1024;
const timeoutMs = 60_000;

/** How to start the firewall programs of one network namespace. */
export interface ProgramOptions {
  /** Directories as in PATH, searched before the usual ones. */
  readonly searchPath?: string | undefined;
  /** Network namespace to run in, by path; the own one if absent. */
  readonly namespacePath?: string | undefined;
}

/** A program that is not installed, or that ended with an error. */
export class ProgramError extends Error {
  readonly program: string;
  /** What it said on stderr. */
  readonly stderr: string;
  /** Absent if it did not run to its end. */
  readonly exitCode?: number;
  /** True if there is no such program. */
  readonly missing: boolean;

  constructor(
    program: string,
    message: string,
    details: { stderr?: string; exitCode?: number; missing?: boolean } = {},
  ) {
    super(message);
    this.name = "ProgramError";
    this.program = program;
    this.stderr = details.stderr ?? "";
    if (details.exitCode !== undefined) this.exitCode = details.exitCode;
    this.missing = details.missing ?? false;
  }
}

/**
 * Full path of an executable.
 * @throws {ProgramError} with `missing`, naming where it was looked for
 */
export function findProgram(name: string, searchPath = ""): string {
  const directories = [
    ...new Set([...searchPath.split(":").filter((entry) => entry.startsWith("/")), ...usualDirectories]),
  ];
  for (const directory of directories) {
    const candidate = join(directory, name);
    if (isExecutable(candidate)) return candidate;
  }
  throw new ProgramError(name, `Cannot find the program ${name} in ${directories.join(":")}`, {
    missing: true,
  });
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Runs a program to its end and returns its stdout. Its environment is PATH and the C locale; stdin is empty:
 * a pipe that Node makes is a socket, which nft can't open as /dev/stdin.
 * @throws {ProgramError}
 */
export async function runProgram(
  name: string,
  args: readonly string[],
  options: ProgramOptions,
): Promise<string> {
  let file = findProgram(name, options.searchPath);
  let all = args;
  if (options.namespacePath !== undefined) {
    all = [`--net=${options.namespacePath}`, "--", file, ...args];
    file = findProgram("nsenter", options.searchPath);
  }
  // Loading it takes 7 ms, which most requests need not spend.
  const { execFile } = await import("node:child_process");
  return await new Promise((resolve, reject) => {
    const child = execFile(
      file,
      all,
      {
        env: { PATH: usualDirectories.join(":"), LC_ALL: "C" },
        maxBuffer: maxOutputBytes,
        timeout: timeoutMs,
        killSignal: "SIGKILL",
      },
      (error, stdout, stderr) => {
        if (!error) return resolve(stdout);
        const ended = typeof error.code === "number";
        const reason = ended ? stderr.trim() || `exit code ${error.code}` : error.message;
        const command = [name, ...args].join(" ").replace(/\s+/gu, " ").slice(0, 120);
        reject(
          new ProgramError(name, `Cannot run ${command}: ${reason}`, {
            stderr,
            ...(ended ? { exitCode: Number(error.code) } : {}),
          }),
        );
      },
    );
    child.stdin?.end();
  });
}
