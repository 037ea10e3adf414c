import { statSync } from "node:fs";
import { join } from "node:path";
import { InProcessRunner } from "#cni/in-process-runner.ts";
import { ExecRunner } from "#cni/invoke.ts";
import type { Environment, NamespaceIdentity } from "#cni/plugin.ts";
import { NameRegistry, type NameService, registryDirectory } from "#dns-resolver/registry.ts";
import { Journal } from "#journal/journal.ts";
import { HostKernel } from "#kernel/host-kernel.ts";
import { readBootId } from "#machine/boot-id.ts";
import { systemBusPath } from "#machine/dbus.ts";
import { type Directories, resolveDirectories } from "#machine/directories.ts";
import type { Log } from "#machine/log.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { emptyTrash } from "#machine/trash.ts";
import { Nftables } from "#nftables/nftables.ts";
import type { PluginHost } from "#plugins/context.ts";
import { OwnExecutable } from "./own-executable.ts";
import { loadPlugin } from "./plugins.ts";
import { RemoteNames } from "./remote-names.ts";

export interface SuiteHost extends PluginHost {
  /** The same host for one request, whose lines go to this log. */
  withLog(log: Log): PluginHost;
  /** Finishes what goes on in the background, and closes every handle. */
  close(): Promise<void>;
}

/** What a service has of its own. */
export interface HostParts {
  /** Absent: netd's, which is started where there is none. */
  readonly names?: NameService;
  /** Settles when there is time for what nobody waits for. Absent: at once. */
  readonly afterwards?: () => Promise<void>;
}

/** The names of the containers of this host's network namespace. */
export function openRegistry(environment: Environment): NameRegistry {
  const { run } = resolveDirectories(environment);
  return new NameRegistry(registryDirectory(run, statSync("/proc/self/ns/net")));
}

/**
 * The host that the plugins of this process act on: its own network namespace, and the directories that
 * `environment` names (NETCTL_*_DIR). Nothing is opened before it is used.
 */
export function openHost(
  environment: Environment,
  log: Log,
  directories: Directories = resolveDirectories(environment),
  parts: HostParts = {},
): SuiteHost {
  const bootId = readBootId();
  const kernel = HostKernel.open();
  const nftables = new Nftables();
  const own = new OwnExecutable();
  const ownNamespace = statSync("/proc/self/ns/net");
  const hostNamespace: NamespaceIdentity = { dev: ownNamespace.dev, ino: ownNamespace.ino };
  const journal = new Journal({ directory: join(directories.state, "journal"), bootId, hostNamespace });

  const unfinished = new Set<Promise<void>>();

  const shared = {
    names:
      parts.names ??
      new RemoteNames({ registry: openRegistry(environment), runDirectory: directories.run, environment }),
    hostNamespace,
    identifyNamespace,
    kernel,
    nftables,
    journal,
    directories,
    systemBus: systemBusPath(environment),
    bootId,
  };
  const withLog = (requestLog: Log): PluginHost => {
    const host: PluginHost = {
      ...shared,
      log: requestLog,
      afterwards(what, task) {
        const run = async () => {
          try {
            await task();
          } catch (error) {
            const reason = error instanceof Error ? error.message : String(error);
            requestLog.debug(`cannot ${what}`, { error: reason });
          }
        };
        const ended = (parts.afterwards?.() ?? Promise.resolve()).then(run);
        unfinished.add(ended);
        void ended.then(() => unfinished.delete(ended));
      },
      runner: new InProcessRunner<PluginHost>({
        load: loadPlugin,
        host: () => host,
        isOurs: (file, stats) => own.matches(file, stats),
        fallback: new ExecRunner(),
      }),
    };
    return host;
  };
  return {
    ...withLog(log),
    withLog,
    async close() {
      await Promise.all([...unfinished, emptyTrash()]);
      nftables.close();
      kernel.close();
    },
  };
}
