import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import { splitPath } from "#cni/environment.ts";
import { ExecRunner } from "#cni/invoke.ts";
import type { Environment } from "#cni/plugin.ts";
import { Journal } from "#journal/journal.ts";
import { HostKernel } from "#kernel/host-kernel.ts";
import { readBootId } from "#machine/boot-id.ts";
import { type Directories, type DirectoryOverrides, resolveDirectories } from "#machine/directories.ts";
import { type Log, lineLog } from "#machine/log.ts";
import { LogFile, logFilePath } from "#machine/log-file.ts";
import { traceFields } from "#machine/trace-context.ts";
import { NetdChains } from "#netd/chain-client.ts";
import { ResultCache } from "#runtime/cache.ts";
import type { ChainHost } from "#runtime/chain.ts";
import { ConfDirectory } from "#runtime/conf-dir.ts";
import { Sandboxes } from "#runtime/sandbox.ts";
import type { Io } from "./io.ts";
import { sandboxRouting } from "./sandbox/routes.ts";
import { readSettings, type Settings } from "./settings.ts";

/** Everything a command can act on: it is a function of this and its flags, so tests need no process. */
export interface World {
  readonly io: Io;
  readonly environment: Environment;
  readonly directories: Directories;
  readonly networks: ConfDirectory;
  readonly chain: ChainHost;
  readonly sandboxes: Sandboxes;
  readonly journal: Journal;
  /** What the operator has set for this host; read when a command asks for it, once. @throws {Failure} */
  settings(): Promise<Settings>;
  /** What netctl does by itself, beside the lines of the plugins: networks and containers made and removed. */
  readonly log: Log;
  /** For reading: what netctl changes, it changes through plugins, but for the routes of sandboxes. */
  readonly kernel: HostKernel;
}

/**
 * The world of one command line. Opens nothing yet.
 * @param signal stops what is being attached, which is then taken back
 * @param flags directories and the configuration file given on the command line; the plugins that are run get the
 *   directories by environment
 */
export function openWorld(
  environment: Environment,
  flags: DirectoryOverrides & { readonly config?: string | undefined },
  io: Io,
  signal: AbortSignal | undefined,
): World {
  // Records and configurations name them, for readers with another working directory.
  const absolute = (path: string | undefined) => (path ? resolve(io.workingDirectory, path) : undefined);
  const absoluteAll = (paths: string | undefined) =>
    paths ? splitPath(paths).map(absolute).join(":") : undefined;
  const asked: DirectoryOverrides = {
    conf: absolute(flags.conf || environment["NETCTL_CONF_DIR"]),
    bin: absoluteAll(flags.bin || environment["NETCTL_BIN_DIR"]),
    state: absolute(flags.state || environment["NETCTL_STATE_DIR"]),
    run: absolute(flags.run || environment["NETCTL_RUN_DIR"]),
  };
  const directories = resolveDirectories(environment, asked);
  const forPlugins: Environment = {
    ...environment,
    ...given("NETCTL_CONF_DIR", asked.conf),
    ...given("NETCTL_BIN_DIR", asked.bin),
    ...given("NETCTL_STATE_DIR", asked.state),
    ...given("NETCTL_RUN_DIR", asked.run),
  };
  const traced: Environment = { ...forPlugins, ...traceOf(environment) };
  const log = commandLog(traced);
  const networks = new ConfDirectory(directories.conf);
  const chain: ChainHost = {
    runner: new ExecRunner(),
    path: splitPath(directories.bin),
    environment: traced,
    cache: new ResultCache(directories.results),
    service: new NetdChains(directories.run),
    ...(signal === undefined ? {} : { signal }),
  };
  const settingsFile = absolute(flags.config || environment["NETCTL_CONFIG"]);
  let settings: Promise<Settings> | undefined;
  const kernel = HostKernel.open();
  return {
    io,
    settings: () => (settings ??= readSettings(settingsFile)),
    environment: forPlugins,
    directories,
    networks,
    chain,
    sandboxes: new Sandboxes(directories, networks, chain, sandboxRouting(kernel), log),
    journal: new Journal({ directory: `${directories.state}/journal`, bootId: readBootId() }),
    log,
    kernel,
  };
}

/** To the file alone: on the terminal is what a command prints. */
function commandLog(environment: Environment): Log {
  const file = new LogFile(logFilePath(environment));
  const sink = { level: "info", events: true, write: (line: string) => file.append(line) } as const;
  return lineLog([sink], { pid: process.pid, ...traceFields(environment) });
}

/** All that one command has done hangs together, also where its caller has no trace: one of its own, that nobody records. */
function traceOf(environment: Environment): Environment {
  if (traceFields(environment) !== undefined) return {};
  const hex = (bytes: number) => randomBytes(bytes).toString("hex");
  return { TRACEPARENT: `00-${hex(16)}-${hex(8)}-00`, TRACESTATE: undefined };
}

function given(name: string, value: string | undefined): Environment {
  return value ? { [name]: value } : {};
}
