// Main of netd, the warm service of one network namespace.

import { closeSync, constants, fstatSync, mkdirSync, openSync, rmSync, statSync } from "node:fs";
import type { Socket } from "node:net";
import { pino } from "pino";
import { withCrashPoints } from "#machine/crash-point.ts";
import { resolveDirectories } from "#machine/directories.ts";
import type { Log } from "#machine/log.ts";
import { LockOperation, native } from "#native/addon.ts";
import { openHost } from "#suite/host.ts";
import { recover } from "#suite/recover.ts";
import { readOptions } from "./options.ts";
import { lockPath, type Namespaces, socketPath } from "./protocol.ts";
import { RequestServer } from "./server.ts";
import { Service } from "./service.ts";

const idleCheckMs = 1000;
/** The first descriptor that systemd passes: SD_LISTEN_FDS_START */
const listenFd = 3;

function ownNamespaces(): Namespaces {
  const inode = (name: string) => statSync(`/proc/self/ns/${name}`, { bigint: true }).ino;
  return { network: inode("net"), mount: inode("mnt") };
}

/** True if the descriptor that the launcher hands over is the lock that it took: an open lock file. */
function holdsLock(fd: number, path: string): boolean {
  const [inherited, file] = [fstatSync(fd), statSync(path)];
  return inherited.dev === file.dev && inherited.ino === file.ino;
}

/** Takes the lock that makes this the only netd of its namespace; false where another has it. */
function takeLock(path: string): boolean {
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  if (native().flock(fd, LockOperation.Exclusive | LockOperation.NonBlocking)) return true;
  closeSync(fd);
  return false;
}

function peerUid(socket: Socket): number | undefined {
  const handle: unknown = Reflect.get(socket, "_handle");
  const fd: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  return typeof fd === "number" && fd >= 0 ? native().peerUid(fd) : undefined;
}

async function main(): Promise<void> {
  const environment = { ...process.env };
  const options = readOptions(environment, process.pid);
  const logger = pino(
    { level: options.logLevel, base: { pid: process.pid } },
    pino.destination({ dest: options.logFile ?? 2, sync: true, mkdir: true }),
  );
  const log: Log = {
    debug: (message, fields) => logger.debug(fields ?? {}, message),
    info: (message, fields) => logger.info(fields ?? {}, message),
    warn: (message, fields) => logger.warn(fields ?? {}, message),
    error: (message, fields) => logger.error(fields ?? {}, message),
  };
  const namespaces = ownNamespaces();
  const { runDirectory } = options;
  mkdirSync(runDirectory, { recursive: true, mode: 0o700 });
  const lock = lockPath(runDirectory, namespaces.network);
  if (!(options.lockFd !== undefined && holdsLock(options.lockFd, lock)) && !takeLock(lock)) {
    log.info("another netd serves this network namespace", { network: String(namespaces.network) });
    return;
  }

  const host = openHost(environment, log);
  const { cleaned, failed } = await withCrashPoints("recovery", environment, () => recover(host));
  for (const record of cleaned)
    log.info("cleaned up after a crash or reboot", { ...record.key, plugin: record.plugin });
  for (const { record, reason } of failed)
    log.error("cannot clean up", { ...record.key, plugin: record.plugin, reason });

  const service = new Service(host);
  const directories = JSON.stringify(host.directories);
  const server = new RequestServer({
    accepts: ({ namespaces: theirs, environment: asked }) =>
      theirs.network === namespaces.network &&
      theirs.mount === namespaces.mount &&
      JSON.stringify(resolveDirectories(asked)) === directories,
    peerUid,
    allowedUids: [0, process.getuid?.() ?? 0],
    serve: (request, signal) => service.serve(request, signal),
    log,
  });
  const path = socketPath(runDirectory, namespaces.network);
  if (options.hasListenFd) await server.listenFd(listenFd);
  else await server.listen(path);
  log.info("ready", { path, directories: host.directories });

  let stopping = false;
  const stop = async (reason: string) => {
    if (stopping) return;
    stopping = true;
    log.info("stopping", { reason, served: server.served });
    if (!options.hasListenFd) rmSync(path, { force: true });
    await server.close();
    await host.close();
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => void stop(signal));
  if (options.idleExitMs > 0) {
    setInterval(() => {
      if (server.active === 0 && Date.now() - server.lastActiveMs >= options.idleExitMs) void stop("idle");
    }, idleCheckMs);
  }
}

// A fault in one request must not end the others: the journal has what is needed to clean up after it.
process.on("uncaughtException", (error) => {
  console.error(`netd: uncaught: ${error.stack ?? error}`);
});
process.on("unhandledRejection", (error) => {
  console.error(`netd: unhandled: ${error instanceof Error ? error.stack : String(error)}`);
});
main().catch((error: unknown) => {
  console.error(`netd: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
});
