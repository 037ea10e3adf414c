import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CniError } from "#cni/error.ts";
import type { JsonObject } from "#cni/json.ts";
import type { Call, Outcome, Plugin, Verb } from "#cni/plugin.ts";
import type { PluginRunner } from "#cni/plugin-runner.ts";
import { runVerb } from "#cni/skel.ts";
import { NameRegistry, registryDirectory } from "#dns-resolver/registry.ts";
import { Journal } from "#journal/journal.ts";
import { HostKernel } from "#kernel/host-kernel.ts";
import { readBootId } from "#machine/boot-id.ts";
import { silentLog } from "#machine/log.ts";
import { identifyNamespace } from "#machine/namespace-identity.ts";
import { emptyTrash } from "#machine/trash.ts";
import { Nftables } from "#nftables/nftables.ts";
import type { PluginHost } from "#plugins/context.ts";
import { RemoteNames } from "#suite/remote-names.ts";
import { TestNamespace } from "./test-namespace.ts";

export interface TestHostOptions {
  /** Whom delegation finds, by type name. */
  readonly plugins?: Readonly<Record<string, Plugin<PluginHost>>>;
  /** Takes a delegated call before `plugins` do; undefined leaves it to them. */
  readonly intercept?: (type: string, call: Call) => Outcome | undefined;
}

/** What a verb printed, read back. */
export interface Answer {
  readonly exitCode: number;
  /** The result or the error; {} if nothing was printed. */
  readonly json: JsonObject;
  readonly stderr: string;
}

export interface VerbArguments {
  readonly containerId?: string;
  readonly ifName?: string;
  /** Path; "" if absent. */
  readonly netns?: string;
  readonly args?: string;
  /** Further variables. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/**
 * A host of its own for one test: a namespace, directories, and plugins called through their door. Parts can be
 * replaced, to see what a plugin does when one of them fails.
 */
export class TestHost {
  readonly namespace: TestNamespace;
  readonly directory: string;
  readonly #options: TestHostOptions;
  readonly #containers: TestNamespace[] = [];
  /** What plugins do behind their answers: a call waits for it, so that tests find the same each time. */
  readonly #unfinished: Promise<void>[] = [];
  #replaced: Partial<PluginHost> = {};
  #host: PluginHost;

  constructor(hint: string, options: TestHostOptions = {}) {
    this.#options = options;
    this.namespace = TestNamespace.create(`${hint}-host`);
    this.directory = mkdtempSync(join(tmpdir(), "netctl-test-"));
    this.#host = this.#compose();
  }

  #compose(): PluginHost {
    const { path } = this.namespace;
    const state = join(this.directory, "state");
    const bootId = readBootId();
    const identity = identifyNamespace(path);
    if (typeof identity === "string") throw new Error(`Cannot use ${path}: ${identity}`);
    return {
      hostNamespace: identity,
      identifyNamespace,
      kernel: HostKernel.open({ namespacePath: path }),
      nftables: new Nftables({ namespacePath: path }),
      journal: new Journal({ directory: join(state, "journal"), bootId }),
      runner: this.#runner(),
      afterwards: (_what, task) => void this.#unfinished.push(task().catch(() => undefined)),
      // No test that calls a plugin like this has a resolver: names have tests of their own, with netd.
      names: new RemoteNames({
        registry: new NameRegistry(registryDirectory(join(this.directory, "run"), identity)),
        runDirectory: join(this.directory, "run"),
        environment: { NETCTL_NETD: "never" },
      }),
      directories: {
        conf: join(this.directory, "conf"),
        bin: join(this.directory, "bin"),
        state,
        run: join(this.directory, "run"),
        leases: join(state, "networks"),
        results: join(state, "results"),
      },
      systemBus: join(this.directory, "no-bus"),
      bootId,
      log: silentLog,
    };
  }

  #runner(): PluginRunner {
    return {
      run: async (type, call) => {
        const intercepted = this.#options.intercept?.(type, call);
        if (intercepted) return intercepted;
        const plugin = this.#options.plugins?.[type];
        if (!plugin) throw new CniError(7, `failed to find plugin ${JSON.stringify(type)} in path []`);
        return await runVerb(plugin, call, this.host);
      },
    };
  }

  /** The whole world of a plugin. */
  get host(): PluginHost {
    return { ...this.#host, ...this.#replaced };
  }

  /** Puts other parts in place until the next call; `replace({})` takes them away. */
  replace(parts: Partial<PluginHost>): void {
    this.#replaced = parts;
  }

  /** A container's namespace, removed with the host. */
  container(hint = "container"): TestNamespace {
    const container = TestNamespace.create(hint);
    this.#containers.push(container);
    return container;
  }

  /** Calls a plugin as a runtime would. */
  async call(
    plugin: Plugin<PluginHost>,
    verb: Verb,
    config: JsonObject,
    { containerId, ifName, netns, args, environment, signal }: VerbArguments = {},
  ): Promise<Answer> {
    const outcome = await runVerb(
      plugin,
      {
        environment: {
          CNI_COMMAND: verb,
          CNI_CONTAINERID: containerId ?? "",
          CNI_IFNAME: ifName ?? "",
          CNI_NETNS: netns ?? "",
          CNI_ARGS: args ?? "",
          CNI_PATH: "/nonexistent",
          PATH: process.env["PATH"],
          ...environment,
        },
        stdin: JSON.stringify(config),
        ...(signal ? { signal } : {}),
      },
      this.host,
    );
    await Promise.all(this.#unfinished.splice(0));
    return {
      exitCode: outcome.exitCode,
      json: outcome.stdout === "" ? {} : (JSON.parse(outcome.stdout) as JsonObject),
      stderr: outcome.stderr,
    };
  }

  async close(): Promise<void> {
    await emptyTrash();
    this.#host.nftables.close();
    this.#host.kernel.close();
    for (const container of this.#containers) {
      if (identifyNamespace(container.path) !== "missing") container.remove();
    }
    this.namespace.remove();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
