import { utimesSync } from "node:fs";
import { dirname, join } from "node:path";
import { isThere } from "#dns-resolver/namespace.ts";
import type { NameKey } from "#dns-resolver/registry.ts";
import type { ResolverService } from "#dns-resolver/service.ts";
import type { Engine } from "#engine/engine.ts";
import { LocalEngine } from "#engine/local.ts";
import type { Directories } from "#machine/directories.ts";
import type { Log } from "#machine/log.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { replaceFile } from "#machine/replace-file.ts";
import { moveToOwnCgroup } from "#netd/own-cgroup.ts";
import { OverlayAgent } from "#overlay/agent.ts";
import { type HostSettings, overlayDirectory, readHostSettings } from "#overlay/host-settings.ts";
import type { ContainerNames, ForeignName, NameExchange } from "#overlay/name-exchange.ts";
import { openEngine } from "#overlay/open-engine.ts";
import { overlayStatusPath } from "#overlay/status-file.ts";
import type { PluginHost } from "#plugins/context.ts";
import { localEndpoints } from "./endpoints.ts";

/** Runs the overlay's agent while this host is a member of a cluster, and tells others how it is. */
export class OverlayHost {
  readonly #host: Pick<PluginHost, "kernel" | "nftables" | "directories" | "journal">;
  readonly #directories: Directories;
  readonly #resolver: ResolverService;
  readonly #log: Log;
  readonly #cgroup: string | undefined;
  #agent: OverlayAgent | undefined;
  /** What the agent was started with. */
  #settings: string | undefined;
  #turn: Promise<void> = Promise.resolve();
  #local: LocalEngine | undefined;
  #told = "";
  #problem: string | undefined;

  /** @param cgroup where processes go that must outlive netd: own-cgroup.ts */
  constructor(
    host: Pick<PluginHost, "kernel" | "nftables" | "directories" | "journal">,
    resolver: ResolverService,
    log: Log,
    cgroup: string | undefined,
  ) {
    this.#cgroup = cgroup;
    this.#host = host;
    this.#resolver = resolver;
    this.#directories = host.directories;
    this.#log = log;
  }

  /** While it is true, netd has work whether or not anybody asks it. */
  get isRunning(): boolean {
    return this.#agent !== undefined;
  }

  /** To be called every second or so. */
  tick(): void {
    this.#turn = this.#turn
      .then(() => this.#compare())
      .catch((error: unknown) => this.#complain(error))
      .then(() => this.#tell());
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#agent?.stop();
    this.#agent = undefined;
    await this.#local?.close();
  }

  /** The embedded engine, opened with the first call. @throws {IoError} */
  async engine(): Promise<Engine> {
    const turn = this.#turn.then(() => this.#openLocal());
    this.#turn = turn.then(
      () => undefined,
      () => undefined,
    );
    return await turn;
  }

  /** Starts, stops or restarts the agent as the settings on disk want it. */
  async #compare(): Promise<void> {
    const directory = overlayDirectory(this.#directories.state);
    const settings = readHostSettings(directory);
    const text = settings && JSON.stringify(settings);
    if (text === this.#settings) return;
    if (settings) await this.#agent?.stop();
    else await this.#agent?.leave();
    this.#agent = undefined;
    this.#settings = text;
    if (settings) this.#agent = await this.#start(settings, directory);
    this.#problem = undefined;
  }

  /** One for the agent and for netctl, as its file has one writer. */
  async #openLocal(): Promise<Engine> {
    return (this.#local ??= await LocalEngine.open(
      join(overlayDirectory(this.#directories.state), "engine"),
    ));
  }

  async #start(settings: HostSettings, directory: string): Promise<OverlayAgent> {
    const engine =
      settings.engine.kind === "local" ? borrowed(await this.#openLocal()) : openEngine(settings.engine);
    const agent = new OverlayAgent({
      settings,
      engine,
      namespace: this.#host.kernel.namespace,
      nftables: this.#host.nftables,
      directory,
      confDirectory: this.#directories.conf,
      names: exchangeWith(this.#resolver),
      log: this.#log,
      endpoints: (network) => localEndpoints(this.#host.journal, network),
      adopt: async (pid) => {
        await moveToOwnCgroup({ asked: this.#cgroup, pid, unitName: `netctl-wireguard-${pid}` }).catch(
          (error: unknown) =>
            this.#log.warn("cannot give a process a cgroup of its own", { pid, error: String(error) }),
        );
      },
    });
    agent.start();
    this.#log.info("the overlay's agent has started", { cluster: settings.cluster, host: settings.hostId });
    return agent;
  }

  #complain(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    if (message === this.#problem) return;
    this.#problem = message;
    this.#log.error("cannot run the overlay's agent", { error: message });
  }

  #tell(): void {
    if (!this.#agent) return;
    const text = JSON.stringify(this.#agent.status());
    const path = overlayStatusPath(this.#directories.run);
    try {
      if (text === this.#told) {
        // Its age says whether anybody is there who would say something else.
        const now = new Date();
        utimesSync(path, now, now);
        return;
      }
      this.#told = text;
      makeDirectory(dirname(path), 0o700);
      replaceFile(path, text, 0o600);
    } catch (error) {
      this.#complain(error);
    }
  }
}

/** The same, but that its borrower does not close it. */
function borrowed(engine: Engine): Engine {
  return {
    commit: (steps) => engine.commit(steps),
    read: (key) => engine.read(key),
    list: (prefix) => engine.list(prefix),
    listInParts: (prefix) => engine.listInParts(prefix),
    watch: (prefix, from, signal) => engine.watch(prefix, from, signal),
    grantLease: (ttlSeconds) => engine.grantLease(ttlSeconds),
    keepAlive: (lease) => engine.keepAlive(lease),
    revokeLease: (lease) => engine.revokeLease(lease),
    reconnect: () => engine.reconnect(),
    status: () => engine.status(),
    close: () => Promise.resolve(),
  };
}

/** The resolver, as the agent sees it. */
function exchangeWith(resolver: ResolverService): NameExchange {
  // Its host's id is in it, so that it is none of a container here.
  const keyOf = ({ network, id }: ForeignName): NameKey => ({ network, containerId: id, ifName: "" });
  const named = ({ id, ...names }: ForeignName & ContainerNames) => ({
    ...names,
    ...keyOf({ id, network: names.network }),
  });
  return {
    begin: (all) => resolver.setForeign(() => mapped(all(), named)),
    local: (network) => resolver.inNetwork(network).filter(({ netns }) => isThere(netns)),
    change: (put, gone) => resolver.changeForeign(mapped(put, named), gone.map(keyOf)),
    onChange: (listener) => resolver.onChange(listener),
  };
}

function* mapped<From, To>(items: Iterable<From>, map: (item: From) => To): Generator<To> {
  for (const item of items) yield map(item);
}
