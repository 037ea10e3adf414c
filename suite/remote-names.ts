import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Environment } from "#cni/plugin.ts";
import type { SyncReport } from "#dns-resolver/messages.ts";
import {
  keyText,
  type NameEntry,
  type NameKey,
  type NameRegistry,
  type NameService,
  NameServiceError,
  type NamespaceId,
} from "#dns-resolver/registry.ts";
import { libDirectory } from "#native/lib-directory.ts";
import { namesRequestName } from "#netd/protocol.ts";

/** How long a netd may take to start: it cleans up first. */
const startTimeoutMs = 10_000;
const callTimeoutMs = 5_000;
const pauseMs = 20;

export interface RemoteNamesOptions {
  readonly registry: NameRegistry;
  readonly runDirectory: string;
  readonly environment: Environment;
}

/**
 * Names for a process that serves one request: it writes the registry, and netd, which is started where there is none,
 * answers by it.
 */
export class RemoteNames implements NameService {
  readonly #options: RemoteNamesOptions;

  constructor(options: RemoteNamesOptions) {
    this.#options = options;
  }

  async publish(entry: NameEntry): Promise<void> {
    const { registry } = this.#options;
    registry.write(entry);
    try {
      const { problems } = await this.#ensureRunning();
      const problem = problems[keyText(entry)];
      if (problem !== undefined) throw new NameServiceError(problem);
    } catch (error) {
      await this.withdraw(entry);
      throw error;
    }
  }

  async withdraw(key: NameKey): Promise<void> {
    if (!this.#options.registry.remove(key)) return;
    // Without netd nobody answers by it, and nobody has the namespace open.
    await this.#sync().catch(ignoreUnavailable);
  }

  inNamespace({ dev, ino }: NamespaceId): readonly NameEntry[] {
    return this.#options.registry.list().filter(({ netns }) => netns.dev === dev && netns.ino === ino);
  }

  inNetwork(network: string): readonly NameEntry[] {
    return this.#options.registry.list().filter((entry) => entry.network === network);
  }

  async probe(): Promise<void> {
    await this.#ensureRunning();
  }

  async #sync(): Promise<SyncReport> {
    const { runDirectory, environment } = this.#options;
    // Loading it takes time that only requests about names need.
    const { callNetd } = await import("#netd/client.ts");
    const { exitCode, stdout } = await callNetd({
      runDirectory,
      environment,
      name: namesRequestName,
      stdin: JSON.stringify({ op: "sync" }),
      timeoutMs: callTimeoutMs,
    });
    if (exitCode !== 0) throw new NameServiceError(`the resolver does not work: ${stdout}`);
    return JSON.parse(stdout) as SyncReport;
  }

  async #ensureRunning(): Promise<SyncReport> {
    const first = await this.#try();
    if (!(first instanceof Error)) return first;
    if (this.#options.environment["NETCTL_NETD"] === "never") {
      throw new NameServiceError(
        `Cannot serve names: ${first.message}, and NETCTL_NETD "never" forbids to start it`,
      );
    }
    const deadline = performance.now() + startTimeoutMs;
    await this.#start();
    for (;;) {
      const report = await this.#try();
      if (!(report instanceof Error)) return report;
      if (performance.now() > deadline) {
        const message = `Cannot serve names: netd was started and does not answer: ${report.message}`;
        throw new NameServiceError(message, { cause: report, isTemporary: true });
      }
      await sleep(pauseMs);
    }
  }

  /** @returns an error where no netd answers */
  async #try(): Promise<SyncReport | Error> {
    try {
      return await this.#sync();
    } catch (error) {
      if (isUnavailable(error)) return error;
      throw error;
    }
  }

  /** As every call does that finds no netd: the launcher knows how, and that one is enough. */
  async #start(): Promise<void> {
    const { spawn } = await import("node:child_process");
    const launcher = spawn(join(libDirectory(), "launcher"), [], {
      argv0: "loopback",
      env: { ...environmentOfNetd(this.#options.environment), CNI_COMMAND: "STATUS" },
      stdio: ["pipe", "ignore", "ignore"],
    });
    launcher.stdin.on("error", () => {});
    launcher.stdin.end('{"cniVersion":"1.1.0","name":"netd","type":"loopback"}');
    await new Promise<void>((resolve, reject) => {
      launcher.once("error", (cause) =>
        reject(new NameServiceError(`Cannot start netd: ${cause.message}`, { cause })),
      );
      launcher.once("exit", () => resolve());
    });
  }
}

function environmentOfNetd(environment: Environment): Environment {
  return Object.fromEntries(
    Object.entries(environment).filter(
      ([key]) => key === "PATH" || (/^NETCTL_(?!FAULT)/.test(key) && key !== "NETCTL_STANDALONE"),
    ),
  );
}

function isUnavailable(error: unknown): error is Error {
  return error instanceof Error && error.name === "NetdUnavailable";
}

function ignoreUnavailable(error: unknown): void {
  if (!isUnavailable(error)) throw error;
}
