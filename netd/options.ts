import { resolveDirectories } from "#machine/directories.ts";
import { logFilePath } from "#machine/log-file.ts";
import { listenFd } from "./listen-fds.ts";

export interface NetdOptions {
  readonly runDirectory: string;
  /** Exit when nothing was asked for this long; 0 means never. NETCTL_IDLE_EXIT_SECONDS, default 0. */
  readonly idleExitMs: number;
  /** pino's levels. NETCTL_LOG_LEVEL, default info. */
  readonly logLevel: string;
  /** Where lines are kept: NETCTL_LOG_FILE (machine/log-file.ts). */
  readonly logFile: string;
  /** Whether they go to stderr as well: where NETCTL_LOG_FILE is not set. */
  readonly logsToStderr: boolean;
  /** An inherited descriptor that holds the lock already: the launcher took it. NETCTL_NETD_LOCK_FD */
  readonly lockFd?: number;
  /** The host's name servers: resolv.conf(5). NETCTL_RESOLV_CONF, default /etc/resolv.conf. */
  readonly resolvConf: string;
  /** A socket handed in by systemd. */
  readonly listenFd?: number;
  /** Where a netd that was started on demand goes (own-cgroup.ts). NETCTL_NETD_CGROUP */
  readonly cgroup?: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

const levels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];

/** @throws {RangeError} naming the variable and its value */
export function readOptions(environment: Environment, pid: number): NetdOptions {
  const lockFd = wholeNumber(environment, "NETCTL_NETD_LOCK_FD");
  const logLevel = environment["NETCTL_LOG_LEVEL"] || "info";
  if (!levels.includes(logLevel)) {
    throw new RangeError(`Cannot use NETCTL_LOG_LEVEL "${logLevel}": expected ${levels.join(", ")}`);
  }
  const cgroup = environment["NETCTL_NETD_CGROUP"];
  const socket = listenFd(environment, pid);
  return {
    runDirectory: resolveDirectories(environment).run,
    idleExitMs: (wholeNumber(environment, "NETCTL_IDLE_EXIT_SECONDS") ?? 0) * 1000,
    logLevel,
    logFile: logFilePath(environment),
    logsToStderr: !environment["NETCTL_LOG_FILE"],
    resolvConf: environment["NETCTL_RESOLV_CONF"] || "/etc/resolv.conf",
    ...(lockFd === undefined ? {} : { lockFd }),
    ...(socket === undefined ? {} : { listenFd: socket }),
    ...(cgroup ? { cgroup } : {}),
  };
}

function wholeNumber(environment: Environment, name: string): number | undefined {
  const text = environment[name];
  if (text === undefined || text === "") return undefined;
  if (!/^\d{1,9}$/.test(text)) throw new RangeError(`Cannot use ${name} "${text}": expected a whole number`);
  return Number(text);
}
