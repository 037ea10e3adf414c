// Main of netd, the warm service of one network namespace.

import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { LeaseKeeper } from "#dhcp/keeper.ts";
import type { LeaseProtocol } from "#dhcp/lease-protocol.ts";
import { LeaseStore } from "#dhcp/lease-store.ts";
import type { LeaseTimes } from "#dhcp/lease-times.ts";
import { secondsSinceBoot } from "#dhcp/uptime.ts";
import { dhcp4 } from "#dhcp/v4/protocol.ts";
import { dhcp6 } from "#dhcp/v6/protocol.ts";
import { ResolverService } from "#dns-resolver/service.ts";
import { withCrashPoints } from "#machine/crash-point.ts";
import { resolveDirectories } from "#machine/directories.ts";
import { HeapKeeper } from "#machine/heap-keeper.ts";
import type { Log } from "#machine/log.ts";
import { native } from "#native/addon.ts";
import { openHost, openRegistry, type SuiteHost } from "#suite/host.ts";
import { hasAttachments } from "#suite/kept.ts";
import { loadPlugins } from "#suite/plugins.ts";
import { recover } from "#suite/recover.ts";
import { endAfterFault } from "./faults.ts";
import { Keeper } from "./keeper.ts";
import { hasPathsOfItsOwn, ownLocality } from "./locality.ts";
import { openLog, type ServiceLog } from "./log.ts";
import { Metrics } from "./metrics.ts";
import { type NetdOptions, readOptions } from "./options.ts";
import { OverlayHost } from "./overlay/host.ts";
import { moveToOwnCgroup } from "./own-cgroup.ts";
import { ProgramWatch } from "./program-watch.ts";
import { isSameLocality, lockPath, socketPath } from "./protocol.ts";
import { RedirectKeeper } from "./redirect-keeper.ts";
import { RequestServer } from "./server.ts";
import { Service } from "./service.ts";
import { ServiceLock } from "./service-lock.ts";
import { prepareRunDirectory, SocketFile } from "./socket-file.ts";
import { canBeStarted, startSuccessor, type Trial } from "./successor.ts";

const watchIntervalMs = 1000;
const anotherVersion = "another version was installed";
/** What a thousand hosts and containers leave behind when they are compared. */
const heapWasteBytes = 5 * 1024 * 1024;
/** Longer than any caller waits by default, shorter than systemd waits before it kills. */
const stopLimitMs = 75_000;

/** Set once there is somebody to answer. */
let server: RequestServer | undefined;
let faults = 0;

/** The lock of this network namespace; undefined where another netd has it, and this one is not needed. */
async function takeLock(options: NetdOptions, path: string, log: Log): Promise<ServiceLock | undefined> {
  const lock = ServiceLock.take(path, options.lockFd);
  if (lock || options.listenFd === undefined) return lock;
  // systemd's socket has taken the place of that netd's, which notices and ends.
  log.info("waiting for the netd that runs already", { lock: path });
  return await ServiceLock.wait(path);
}

async function cleanUp(host: SuiteHost, environment: NodeJS.ProcessEnv, log: Log): Promise<void> {
  const { cleaned, failed } = await withCrashPoints("recovery", environment, () => recover(host));
  for (const record of cleaned)
    log.info("cleaned up after a crash or reboot", { ...record.key, plugin: record.plugin });
  for (const { record, reason } of failed)
    log.error("cannot clean up", { ...record.key, plugin: record.plugin, reason });
}

async function openServer(
  host: SuiteHost,
  resolver: ResolverService,
  overlay: OverlayHost,
  metrics: Metrics,
  uid: number,
  log: ServiceLog,
): Promise<RequestServer> {
  const locality = ownLocality();
  const service = new Service(host, await loadPlugins(), resolver, () => overlay.engine(), metrics);
  const directories = JSON.stringify(host.directories);
  return new RequestServer({
    accepts: (request) =>
      isSameLocality(request.locality, locality) &&
      JSON.stringify(resolveDirectories(request.environment)) === directories &&
      !hasPathsOfItsOwn(request),
    allowedUids: [0, uid],
    serve: async (request, caller) => {
      const outcome = await service.serve(request, caller);
      // Whoever has the answer finds the lines.
      log.flush();
      return outcome;
    },
    log,
  });
}

interface Start {
  readonly environment: NodeJS.ProcessEnv;
  readonly options: NetdOptions;
  readonly log: ServiceLog;
  readonly network: bigint;
  readonly uid: number;
}

/** Cleans up, then opens the socket. */
async function serve({ environment, options, log, network, uid }: Start) {
  const { listenFd, runDirectory } = options;
  const resolver = new ResolverService({
    registry: openRegistry(environment),
    resolvConf: options.resolvConf,
    log,
  });
  // Before all else: containers wait for it, and nobody yet for what comes after.
  await resolver.start();
  const host = openHost(environment, log, resolveDirectories(environment), {
    names: resolver,
    afterwards: () => nextTurn(),
  });
  await cleanUp(host, environment, log);
  const overlay = new OverlayHost(host, resolver, log, options.cgroup);
  const metrics = new Metrics(resolver);
  const requests = await openServer(host, resolver, overlay, metrics, uid, log);
  const file = listenFd === undefined ? new SocketFile(socketPath(runDirectory, network)) : undefined;
  if (listenFd !== undefined) await requests.listen({ fd: listenFd });
  await file?.place((path) => requests.listen({ path }));
  return { host, resolver, overlay, metrics, requests, file };
}

/** Extends the leases of containers that have their addresses by one protocol of DHCP. */
function openLeaseKeeper<Identity, Lease extends { readonly times: LeaseTimes }>(
  protocol: LeaseProtocol<Identity, Lease>,
  host: SuiteHost,
  log: Log,
): LeaseKeeper<Identity, Lease> {
  return new LeaseKeeper({
    protocol,
    store: new LeaseStore(protocol.format, host.directories),
    bootId: host.bootId,
    hostNamespace: host.hostNamespace,
    open: (target) => host.kernel.open(target),
    log,
    now: secondsSinceBoot,
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function main(): Promise<void> {
  // The space for new objects stays at 1 MiB: with what V8 takes by itself, a busy netd has 100 MiB instead of 75, and is
  // no faster. Set here, since with flags on the command line V8 would reject the code caches (suite/program.ts).
  setFlagsFromString("--semi-space-growth-factor=1");
  // A space of 1 MiB is too small to be cleared by several threads, which have to be woken for it.
  setFlagsFromString("--no-parallel-scavenge");
  native().keepMallocSmall();
  native().useOwnProc(true);
  const { pid } = process;
  const uid = process.getuid?.() ?? 0;
  // Files are made as the plugins mean them, whoever started this.
  process.umask(0o022);
  const environment = { ...process.env };
  const options = readOptions(environment, pid);
  const log = openLog(options, pid);
  const program = process.argv[1] ?? "";
  const installed = new ProgramWatch(program);
  const { network } = ownLocality();
  const { runDirectory } = options;
  prepareRunDirectory(runDirectory, uid);
  const lock = await takeLock(options, lockPath(runDirectory, network), log);
  if (!lock) {
    log.info("another netd serves this network namespace", { network: String(network) });
    return;
  }

  const { host, resolver, overlay, metrics, requests, file } = await serve({
    environment,
    options,
    log,
    network,
    uid,
  }).catch((error: unknown) => {
    lock.markFailed(messageOf(error));
    throw error;
  });
  server = requests;
  log.event({ type: "netd", action: "start" });
  log.info("ready", { path: socketPath(runDirectory, network), directories: host.directories });
  log.flush();
  lock.markReady(pid);

  const keeper = new Keeper({ host, onRepair: (found) => metrics.countRepair(found) });
  keeper.start();
  const redirects = new RedirectKeeper({ containers: () => resolver.perNamespace(), log });
  const leaseKeepers = [openLeaseKeeper(dhcp4, host, log), openLeaseKeeper(dhcp6, host, log)];
  for (const leases of leaseKeepers) leases.tick();
  overlay.tick();

  let stopping = false;
  let replacing = false;
  const signalled = new AbortController();
  /** A trial of the program that was installed. */
  const trial = (what: string): Trial => ({
    program,
    nodeArguments: process.execArgv,
    environment,
    signal: signalled.signal,
    onFailure: (reason) => log.error(what, { program, reason }),
  });
  const handOver = async () => {
    const pid = await startSuccessor(trial("cannot hand over to the version that was installed"), lock);
    if (pid === undefined) return;
    log.info("handed over", { to: pid });
    log.event({ type: "netd", action: "handover", attributes: { to: String(pid) } });
  };
  const stop = async (reason: string, afterwards = async () => {}) => {
    if (stopping) return;
    stopping = true;
    log.info("stopping", { reason, served: requests.served });
    log.event({ type: "netd", action: "stop", attributes: { reason } });
    file?.remove();
    // One that never ends would keep it for ever; its caller has given up by then.
    await Promise.race([
      Promise.all([requests, keeper, overlay, ...leaseKeepers].map((part) => part.close())),
      sleep(stopLimitMs),
    ]);
    await resolver.close();
    await host.close();
    await afterwards();
    process.exit(0);
  };
  /** Containers have no names while no netd serves, and a call that would start one may not come for days. */
  const replace = async () => {
    replacing = true;
    // While it is tried, the installer may go on: what is there last is tried last.
    installed.passOver();
    if (await canBeStarted(trial("cannot start the version that was installed"))) {
      await stop(anotherVersion, handOver);
    } else if (!stopping) {
      log.event({ type: "netd", action: "stay", attributes: { reason: "another version can't be started" } });
      replacing = false;
    }
  };
  const reasonToStop = (): string | undefined => {
    const isIdle = options.idleExitMs > 0 && requests.idleMs >= options.idleExitMs;
    // While there are attachments it stays: nobody else would put back what is taken away of them.
    if (
      isIdle &&
      !overlay.isRunning &&
      !leaseKeepers.some((leases) => leases.hasLeases) &&
      !hasAttachments(host)
    )
      return "idle";
    if (file && !file.isThere()) return "the socket was taken away";
    const found = installed.look();
    if (found === "gone") return "its program was removed";
    if (found !== "replaced") return undefined;
    // systemd, or whoever else started it, starts the next one.
    if (options.lockFd === undefined) return anotherVersion;
    if (!replacing) void replace();
    return undefined;
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      signalled.abort();
      void stop(signal);
    });
  }
  let hasForgotten = false;
  const heap = new HeapKeeper(heapWasteBytes, () => {
    native().trimMalloc();
    // Once, for what the start alone has needed.
    if (!hasForgotten) native().forgetProgramPages();
    hasForgotten = true;
  });
  setInterval(() => {
    if (requests.idleMs >= watchIntervalMs) heap.tick();
    const reason = reasonToStop();
    if (reason !== undefined) void stop(reason);
    else {
      keeper.tick();
      redirects.tick();
      for (const leases of leaseKeepers) leases.tick();
      overlay.tick();
    }
  }, watchIntervalMs);

  if (options.lockFd !== undefined) {
    const unitName = `netctl-netd-${network}`;
    const moved = await moveToOwnCgroup({ asked: options.cgroup, pid, unitName }).catch(String);
    if (moved !== undefined) log.info("cgroup", { moved });
  }
}

function onFault(error: unknown): void {
  faults += 1;
  console.error(`netd: uncaught: ${error instanceof Error ? error.stack : String(error)}`);
  if (faults > 1) return;
  const ended = server ? endAfterFault(server, error, () => faults) : Promise.resolve();
  void ended.finally(() => process.exit(1));
}

process.on("uncaughtException", onFault);
process.on("unhandledRejection", onFault);
main().catch((error: unknown) => {
  console.error(`netd: ${messageOf(error)}`);
  process.exit(1);
});
