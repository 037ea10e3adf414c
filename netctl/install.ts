import { readdir, readFile, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { programFiles } from "#runtime/program-files.ts";
import type { Register } from "./command.ts";
import { describeError, ExitCode, Failure, UsageFailure } from "./failure.ts";
import {
  hashOf,
  keepPrevious,
  type PlannedFile,
  putFile,
  readIfThere,
  restoreFile,
} from "./install/files.ts";
import { type InstalledFile, Manifest } from "./install/manifest.ts";
import { writeJson } from "./io.ts";
import { createNetwork } from "./network/create.ts";
import { parseNetworkDefinition, plainNetwork } from "./network/definition.ts";
import type { World } from "./world.ts";

export interface InstallFlags {
  readonly for?: string;
  readonly libDir?: string;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** Which of them take a network from the configuration directory by themselves, and so need one there. */
const runtimes: Readonly<Record<string, { readonly needsNetwork: boolean }>> = {
  containerd: { needsNetwork: true },
  crio: { needsNetwork: true },
  podman: { needsNetwork: false },
};
const networkName = "netctl";
const networkFile = "10-netctl.conflist";
/** Where executables look that have no `lib` beside their directory (native/launcher.c). */
const usualLib = "/usr/lib/netctl";

export const registerInstall: Register = (parent, invoke) => {
  parent
    .command("install")
    .summary("Install the executables where container runtimes look")
    .description(
      `Copy the plugins and netctl to --bin-dir, and what they are made of to --lib-dir. What stood there before is kept, and put back by uninstall. With --for containerd or crio, which take a network from --conf-dir, ${networkFile} is written there as well.`,
    )
    .option("--for <runtime>", Object.keys(runtimes).join(", "))
    .option("--lib-dir <dir>", `the directory lib beside --bin-dir, or ${usualLib} (the default)`)
    .option("-n, --dry-run", "only say which files")
    .option("--json", "print JSON: docs/install.md")
    .addHelpText(
      "after",
      "\nExamples:\n  netctl install --dry-run\n  netctl install --for containerd\n  netctl install --bin-dir /srv/cni/bin --lib-dir /srv/cni/lib",
    )
    .action((flags: InstallFlags, command) => invoke(command, (world) => install(flags, world)));
};

export const registerUninstall: Register = (parent, invoke) => {
  parent
    .command("uninstall")
    .summary("Take away what install has put there")
    .description(
      "Remove the files that install has written for --bin-dir, and put back what stood there before. A file that somebody else has replaced since stays.",
    )
    .option("-n, --dry-run", "only say which files")
    .option("--json", "print JSON: docs/install.md")
    .addHelpText("after", "\nExample:\n  netctl uninstall --bin-dir /srv/cni/bin")
    .action((flags: InstallFlags, command) => invoke(command, (world) => uninstall(flags, world)));
};

export async function install(flags: InstallFlags, world: World): Promise<ExitCode> {
  const runtime = flags.for === undefined ? undefined : runtimes[flags.for];
  if (flags.for !== undefined && runtime === undefined) {
    throw new UsageFailure(
      `Cannot install for ${flags.for}: expected one of ${Object.keys(runtimes).join(", ")}`,
    );
  }
  const bin = binDirectory(world);
  const lib = libDirectory(flags, bin, world);
  const source = programFiles();
  if (resolve(source.bin) === bin)
    throw new Failure(`Cannot install into ${bin}: this netctl is run from there; give another --bin-dir`);
  const planned = [
    ...(await filesOf(source.lib, lib)),
    ...(await filesOf(source.bin, bin)),
    ...(runtime?.needsNetwork === true ? await networkFileFor(world) : []),
  ];
  if (flags.dryRun !== true) await putAll(planned, new Manifest(world.directories.state, bin));
  report(
    planned.map(({ path }) => path),
    flags.dryRun === true ? "would install" : "installed",
    flags,
    world,
  );
  return ExitCode.Ok;
}

export async function uninstall(flags: InstallFlags, world: World): Promise<ExitCode> {
  const bin = binDirectory(world);
  const manifest = new Manifest(world.directories.state, bin);
  const files = await manifest.read();
  if (files === undefined)
    throw new Failure(`Cannot uninstall from ${bin}: netctl install has put nothing there`);
  if (flags.dryRun === true) {
    report(
      files.map(({ path }) => path),
      "would take away",
      flags,
      world,
    );
    return ExitCode.Ok;
  }
  const gone: string[] = [];
  for (const file of files) {
    if (await restoreFile(file)) gone.push(file.path);
    else world.io.stderr(`netctl: warning: ${file.path} was replaced by somebody else, and stays\n`);
  }
  const emptied = new Set(
    gone.map(dirname).filter((path) => path !== bin && path !== world.directories.conf),
  );
  // The deepest first; what is not empty stays.
  for (const path of [...emptied].sort((a, b) => b.length - a.length))
    await rmdir(path).catch(() => undefined);
  await rm(manifest.directory, { recursive: true, force: true });
  await manifest.remove();
  report(gone, "took away", flags, world);
  return ExitCode.Ok;
}

function report(paths: readonly string[], verb: string, flags: InstallFlags, world: World): void {
  if (flags.json === true) {
    writeJson(world.io, { schema: "netctl.install/1", dryRun: flags.dryRun === true, files: paths });
  } else world.io.stdout(paths.map((path) => `${verb} ${path}\n`).join(""));
}

function binDirectory(world: World): string {
  const [first = ""] = world.chain.path;
  return resolve(first);
}

function libDirectory({ libDir }: InstallFlags, bin: string, world: World): string {
  const beside = resolve(bin, "../lib");
  const lib = libDir === undefined ? usualLib : resolve(world.io.workingDirectory, libDir);
  if (lib === usualLib || lib === beside) return lib;
  throw new UsageFailure(
    `Cannot use --lib-dir ${libDir ?? ""}: executables in ${bin} look in ${beside} and in ${usualLib}`,
  );
}

/** Regular files, and those in directories below. */
async function filesOf(from: string, to: string): Promise<readonly PlannedFile[]> {
  const entries = await readdir(from, { withFileTypes: true, recursive: true });
  return await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => {
        const path = join(entry.parentPath, entry.name);
        const { mode } = await stat(path);
        return { path: join(to, path.slice(from.length)), content: await readFile(path), mode: mode & 0o777 };
      }),
  );
}

/** A network for a runtime that takes the first one: where there is none of ours already. */
async function networkFileFor(world: World): Promise<readonly PlannedFile[]> {
  const { networks } = await world.networks.load();
  const path = join(world.directories.conf, networkFile);
  if (networks.some((each) => each.list.name === networkName && each.path !== path)) return [];
  const present = await readIfThere(path);
  if (present !== undefined) return [{ path, content: present, mode: 0o644 }];
  const definition = parseNetworkDefinition({ ...plainNetwork, name: networkName, disableDns: true });
  const conflist = await createNetwork(definition, world, { dryRun: true });
  return [{ path, content: Buffer.from(`${JSON.stringify(conflist, null, 2)}\n`), mode: 0o644 }];
}

/** What was there is kept and written down first; a failure takes back what was put there. */
async function putAll(planned: readonly PlannedFile[], manifest: Manifest): Promise<void> {
  const earlier = new Map(((await manifest.read()) ?? []).map((file) => [file.path, file]));
  const files: InstalledFile[] = [];
  for (const [index, { path, content }] of planned.entries()) {
    const known = earlier.get(path);
    const isThere = (await readIfThere(path)) !== undefined;
    const previous =
      known?.previous ??
      (isThere && known === undefined ? join(manifest.directory, `${index}-${basename(path)}`) : null);
    if (previous !== null && known === undefined) await keepPrevious(path, previous);
    files.push({ path, hash: hashOf(content), previous });
  }
  const others = [...earlier.values()].filter(({ path }) => !files.some((file) => file.path === path));
  await manifest.write([...files, ...others]);
  const done: number[] = [];
  try {
    for (const [index, file] of planned.entries()) {
      await putFile(file);
      done.push(index);
    }
  } catch (error) {
    // An upgrade that fails stays half done: both versions run, and doing it again ends it.
    if (earlier.size === 0) {
      for (const index of done) if (files[index] !== undefined) await restoreFile(files[index]);
      await rm(manifest.directory, { recursive: true, force: true });
      await manifest.remove();
    }
    throw new Failure(`Cannot install: ${describeError(error)}`, { cause: error });
  }
}
