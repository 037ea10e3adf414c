import { Command, CommanderError, Help } from "commander";
import type { Environment } from "#cni/plugin.ts";
import { registerApply, registerDown } from "./apply.ts";
import { registerCapture } from "./capture.ts";
import { registerCheck } from "./check.ts";
import {
  registerClusterAdopt,
  registerClusterHosts,
  registerClusterInit,
  registerClusterJoin,
  registerClusterLeave,
  registerClusterStatus,
} from "./cluster/commands.ts";
import { registerClusterRotateKey } from "./cluster/rotate-key.ts";
import type { Register } from "./command.ts";
import { registerCompletion } from "./completion.ts";
import { registerDnsLog } from "./dns/log.ts";
import { registerDnsLs } from "./dns/ls.ts";
import { registerDnsQuery } from "./dns/query.ts";
import { registerDoctor } from "./doctor.ts";
import { registerEvents } from "./events.ts";
import { describeError, ExitCode, Failure, Interruption } from "./failure.ts";
import { registerGc } from "./gc.ts";
import { registerInspect } from "./inspect.ts";
import { registerInstall, registerUninstall } from "./install.ts";
import type { Io } from "./io.ts";
import { registerIpamGc } from "./ipam/gc.ts";
import { registerIpamLs } from "./ipam/ls.ts";
import { registerIpamRelease } from "./ipam/release.ts";
import { registerIpamShow } from "./ipam/show.ts";
import { registerLint } from "./lint.ts";
import { registerLogs } from "./logs.ts";
import { registerMan } from "./man.ts";
import { registerMetrics } from "./metrics.ts";
import { registerNetworkConnect } from "./network/connect.ts";
import { registerNetworkCreate } from "./network/create.ts";
import { registerNetworkDisconnect } from "./network/disconnect.ts";
import { registerNetworkInspect } from "./network/inspect.ts";
import { registerNetworkLs } from "./network/ls.ts";
import { registerNetworkPrune } from "./network/prune.ts";
import { registerNetworkRm } from "./network/rm.ts";
import { registerPlan } from "./plan.ts";
import { registerPort } from "./port.ts";
import { registerRepair } from "./repair.ts";
import { registerSandboxCreate } from "./sandbox/create.ts";
import { registerSandboxExec } from "./sandbox/exec.ts";
import { registerSandboxLs } from "./sandbox/ls.ts";
import { registerSandboxRepair } from "./sandbox/repair.ts";
import { registerSandboxRm } from "./sandbox/rm.ts";
import { registerTop } from "./top.ts";
import { registerTrace } from "./trace.ts";
import { registerUi } from "./ui.ts";
import { suiteVersion } from "./version.ts";
import { registerVersion } from "./version-command.ts";
import { openWorld } from "./world.ts";

/** All commands, by the group that they stand in. */
const groups: readonly (readonly [name: string, summary: string, members: readonly Register[]])[] = [
  [
    "network",
    "Manage networks",
    [
      registerNetworkCreate,
      registerNetworkLs,
      registerNetworkInspect,
      registerNetworkRm,
      registerNetworkConnect,
      registerNetworkDisconnect,
      registerNetworkPrune,
    ],
  ],
  [
    "cluster",
    "Manage the hosts over which overlay networks reach",
    [
      registerClusterInit,
      registerClusterJoin,
      registerClusterLeave,
      registerClusterStatus,
      registerClusterHosts,
      registerClusterAdopt,
      registerClusterRotateKey,
    ],
  ],
  [
    "sandbox",
    "Manage sandboxes: namespaces with a name, standing for containers",
    [registerSandboxCreate, registerSandboxExec, registerSandboxLs, registerSandboxRm, registerSandboxRepair],
  ],
  [
    "ipam",
    "Manage addresses: pools, use, owners, leaks",
    [registerIpamLs, registerIpamShow, registerIpamRelease, registerIpamGc],
  ],
  ["dns", "See what containers find by name, and why", [registerDnsLs, registerDnsQuery, registerDnsLog]],
];
const single: readonly Register[] = [
  registerPort,
  registerInspect,
  registerDoctor,
  registerRepair,
  registerTrace,
  registerCapture,
  registerTop,
  registerEvents,
  registerLogs,
  registerUi,
  registerMetrics,
  registerLint,
  registerPlan,
  registerCheck,
  registerGc,
  registerApply,
  registerDown,
  registerCompletion,
  registerInstall,
  registerUninstall,
  registerVersion,
  registerMan,
];

/** Those that go on until they are told to stop, or hand the terminal over: nobody waits for their end. */
const ownTerminal: readonly string[] = [
  "sandbox exec",
  "top",
  "capture",
  "ui",
  "metrics",
  "events",
  "logs",
  "dns log",
];

/** `network rm` */
function pathOf(command: Command): string {
  const { parent } = command;
  return parent?.parent ? `${parent.name()} ${command.name()}` : command.name();
}

/** What Docker's users know as `docker run`. */
const runShaped: readonly string[] = ["sandbox create"];

const directoryFlags = [
  ["--conf-dir <dir>", "networks' configurations (NETCTL_CONF_DIR, default /etc/cni/net.d)"],
  ["--bin-dir <dir>", "plugins' executables (NETCTL_BIN_DIR, default /opt/cni/bin)"],
  ["--state-dir <dir>", "journal, leases, cached results (NETCTL_STATE_DIR, default /var/lib/netctl)"],
  ["--run-dir <dir>", "what a reboot may remove (NETCTL_RUN_DIR, default /run/netctl)"],
  ["--config <file>", "settings of this host (NETCTL_CONFIG, default /etc/netctl/config.json)"],
] as const;

/**
 * Runs one command line.
 * @param words without the program's name
 * @returns the exit code: docs/netctl.md
 */
export async function runNetctl(
  words: readonly string[],
  environment: Environment,
  io: Io,
  signal?: AbortSignal,
): Promise<number> {
  let exitCode: number = ExitCode.Ok;
  const program = buildProgram(environment, io, signal, (code) => {
    exitCode = code;
  });
  let isRunShaped = false;
  const notice = (_: Command, sub: Command) => {
    isRunShaped = runShaped.includes(pathOf(sub));
  };
  for (const each of [program, ...program.commands]) each.hook("preSubcommand", notice);
  try {
    await program.parseAsync([...words], { from: "user" });
    return exitCode;
  } catch (error) {
    // Help and version were printed; every other error of commander's own is one of usage, and printed as well.
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return ExitCode.Ok;
      return isRunShaped ? ExitCode.NothingRan : ExitCode.Usage;
    }
    const interruption: unknown = signal?.aborted === true ? signal.reason : undefined;
    if (interruption instanceof Interruption) {
      io.stderr(`netctl: ${interruption.message}: ${describeError(error)}\n`);
      return interruption.exitCode;
    }
    io.stderr(`netctl: ${describeError(error)}\n`);
    if (isRunShaped) return ExitCode.NothingRan;
    return error instanceof Failure ? error.exitCode : ExitCode.Failure;
  }
}

function buildProgram(
  environment: Environment,
  io: Io,
  signal: AbortSignal | undefined,
  finish: (exitCode: number) => void,
): Command {
  const program = new Command("netctl")
    .description("Container networks on this host: make them, use them, see what they really do")
    .version(suiteVersion, "--version", "print the version")
    .enablePositionalOptions()
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout(text),
      writeErr: (text) => io.stderr(text),
      outputError: (text, write) => write(text.replace(/^error: /, "netctl: ")),
    })
    .configureHelp({
      showGlobalOptions: true,
      // That an option may be left out needs no words.
      optionDescription: (option) => new Help().optionDescription(option).replace(/ ?\(default: \[\]\)$/, ""),
    });
  for (const [flag, description] of directoryFlags) program.option(flag, description);

  const invoke: Parameters<Register>[1] = async (command, action) => {
    const flags = command.optsWithGlobals<Record<string, string | undefined>>();
    const overrides = {
      conf: flags["confDir"],
      bin: flags["binDir"],
      state: flags["stateDir"],
      run: flags["runDir"],
      config: flags["config"],
    };
    const world = openWorld(environment, overrides, io, signal);
    const path = pathOf(command);
    if (!ownTerminal.includes(path)) io.progress(["netctl", path, ...command.args].join(" "));
    try {
      finish(await action(world));
    } finally {
      io.progress(undefined);
      world.kernel.close();
    }
  };
  for (const [name, summary, members] of groups) {
    const group = program.command(name).summary(summary).description(summary).enablePositionalOptions();
    for (const register of members) register(group, invoke);
  }
  for (const register of single) register(program, invoke);
  for (const leaf of [...program.commands, ...program.commands.flatMap(({ commands }) => commands)]) {
    leaf.copyInheritedSettings(program);
    // The same flags after the subcommand; help shows them once, among the global ones.
    if (leaf.commands.length === 0) addHiddenDirectoryFlags(leaf);
  }
  return program;
}

function addHiddenDirectoryFlags(command: Command): void {
  for (const [flag, description] of directoryFlags)
    command.addOption(command.createOption(flag, description).hideHelp());
}
