import { splitPath } from "#cni/environment.ts";
import { ExecRunner } from "#cni/invoke.ts";
import type { Environment } from "#cni/plugin.ts";
import { Journal } from "#journal/journal.ts";
import { HostKernel } from "#kernel/host-kernel.ts";
import { readBootId } from "#machine/boot-id.ts";
import { type Directories, type DirectoryOverrides, resolveDirectories } from "#machine/directories.ts";
import { ResultCache } from "#runtime/cache.ts";
import type { ChainHost } from "#runtime/chain.ts";
import { ConfDirectory } from "#runtime/conf-dir.ts";
import { Sandboxes } from "#runtime/sandbox.ts";
import type { Io } from "./io.ts";

/** Everything a command can act on: it is a function of this and its flags, so tests need no process. */
export interface World {
  readonly io: Io;
  readonly environment: Environment;
  readonly directories: Directories;
  readonly networks: ConfDirectory;
  readonly chain: ChainHost;
  readonly sandboxes: Sandboxes;
  readonly journal: Journal;
  /** For reading: what netctl changes, it changes through plugins. */
  readonly kernel: HostKernel;
}

/**
 * The world of one command line. Opens nothing yet.
 * @param signal stops what is being attached, which is then taken back
 * @param flags directories given on the command line; the plugins that are run get them by environment
 */
export function openWorld(
  environment: Environment,
  flags: DirectoryOverrides,
  io: Io,
  signal: AbortSignal | undefined,
): World {
  const directories = resolveDirectories(environment, flags);
  const forPlugins: Environment = {
    ...environment,
    ...given("NETCTL_CONF_DIR", flags.conf),
    ...given("NETCTL_BIN_DIR", flags.bin),
    ...given("NETCTL_STATE_DIR", flags.state),
    ...given("NETCTL_RUN_DIR", flags.run),
  };
  const networks = new ConfDirectory(directories.conf);
  const chain: ChainHost = {
    runner: new ExecRunner(),
    path: splitPath(directories.bin),
    environment: forPlugins,
    cache: new ResultCache(directories.results),
    ...(signal === undefined ? {} : { signal }),
  };
  return {
    io,
    environment: forPlugins,
    directories,
    networks,
    chain,
    sandboxes: new Sandboxes(directories, networks, chain),
    journal: new Journal({ directory: `${directories.state}/journal`, bootId: readBootId() }),
    kernel: HostKernel.open(),
  };
}

function given(name: string, value: string | undefined): Environment {
  return value ? { [name]: value } : {};
}
