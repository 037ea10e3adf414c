import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type NetworkList, parseConfList } from "#cni/conflist.ts";
import { findPlugin } from "#cni/find-plugin.ts";
import type { JsonObject } from "#cni/json.ts";
import type { Call, Outcome } from "#cni/plugin.ts";
import type { CniResult } from "#cni/result.ts";
import { ResultCache } from "#runtime/cache.ts";
import {
  addNetworkList,
  type ChainHost,
  checkNetworkList,
  delNetworkList,
  gcNetworkList,
  statusNetworkList,
} from "#runtime/chain.ts";
import type { AttachmentTarget } from "#runtime/plugin-call.ts";
import { TestNamespace } from "#testing/test-namespace.ts";

/** Executables of this repository, and of Debian's containernetworking-plugins. */
export const ourBin = join(import.meta.dirname, "../../dist/bin");
export const goBin = "/usr/lib/cni";

/** Where a runtime looks for executables: one folder, or several in order. */
export type Folders = string | readonly string[];

/**
 * A host with a container runtime as Go ones are: chains of executables, their results in libcni's cache. Which folder
 * the executables come from is said for each call.
 */
export class ChainRunner {
  readonly host: TestNamespace;
  readonly directory: string;
  readonly cache: ResultCache;
  readonly #containers: TestNamespace[] = [];
  readonly #more: Readonly<Record<string, string>>;

  /** @param more further variables of the executables */
  constructor(hint: string, more: Readonly<Record<string, string>> = {}) {
    this.#more = more;
    this.host = TestNamespace.create(`${hint}-host`);
    this.directory = mkdtempSync(join(tmpdir(), "netctl-chain-"));
    this.cache = new ResultCache(this.path("results"));
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  get environment(): Readonly<Record<string, string>> {
    return {
      PATH: process.env["PATH"] ?? "",
      NETCTL_STATE_DIR: this.path("state"),
      NETCTL_RUN_DIR: this.path("run"),
      NETCTL_STANDALONE: "1",
      ...this.#more,
    };
  }

  list(json: object): NetworkList {
    return parseConfList(JSON.stringify(json));
  }

  container(): TestNamespace {
    const container = TestNamespace.create("chain-container");
    this.#containers.push(container);
    return container;
  }

  async add(bin: Folders, list: NetworkList, target: AttachmentTarget): Promise<CniResult> {
    return await addNetworkList(list, target, this.#host(bin));
  }

  async check(bin: Folders, list: NetworkList, target: AttachmentTarget): Promise<void> {
    await checkNetworkList(list, target, this.#host(bin));
  }

  async del(bin: Folders, list: NetworkList, target: AttachmentTarget): Promise<void> {
    await delNetworkList(list, target, this.#host(bin));
  }

  async gc(bin: Folders, list: NetworkList, valid: readonly AttachmentTarget[]): Promise<void> {
    await gcNetworkList(list, valid, this.#host(bin));
  }

  async status(bin: Folders, list: NetworkList): Promise<void> {
    await statusNetworkList(list, this.#host(bin));
  }

  /** What a runtime that lost its disk knows of its containers: nothing. */
  forgetResults(): void {
    rmSync(this.path("results"), { recursive: true, force: true });
  }

  /** Everything on the host that has a name or an address of `marks` in it: rules, leases, records. */
  traces(marks: readonly string[]): readonly string[] {
    const words = this.host.run("nft list ruleset; ip -o addr; ip route; ip -6 route").split("\n");
    const files = (readdirSync(this.directory, { recursive: true, withFileTypes: true }) ?? [])
      .filter((entry) => entry.isFile() && !/^last_reserved_ip|^lock$/.test(entry.name))
      .filter((entry) => !entry.parentPath.includes("/.") && !entry.name.startsWith("."))
      // What has been done stays in the log.
      .filter((entry) => !entry.name.endsWith(".log"))
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => `${path.slice(this.directory.length)}: ${readFileSync(path, "utf8")}`);
    const escaped = marks.map((mark) => mark.replaceAll(".", "\\."));
    const pattern = new RegExp(`(${escaped.join("|")})(?![0-9])`);
    return [...words, ...files].filter((line) => pattern.test(line));
  }

  remove(): void {
    for (const container of this.#containers) if (existsSync(container.path)) container.remove();
    this.host.remove();
    rmSync(this.directory, { recursive: true, force: true });
  }

  #host(bin: Folders): ChainHost {
    const path = typeof bin === "string" ? [bin] : bin;
    return {
      cache: this.cache,
      path,
      environment: this.environment,
      runner: { run: async (type, call) => await runInside(this.host, findPlugin(type, path), call) },
    };
  }
}

async function runInside(host: TestNamespace, file: string, call: Call): Promise<Outcome> {
  const environment = Object.entries(call.environment).filter(
    (entry): entry is [string, string] => entry[1] !== undefined,
  );
  const child = spawn("nsenter", [`--net=${host.path}`, "--", file], {
    env: Object.fromEntries(environment),
    cwd: "/",
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  child.stdin.end(call.stdin);
  const exitCode = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
  return { exitCode, stdout, stderr };
}

/** Who is attached: `eth0` of a container, with what the runtime gives for the capabilities. */
export function targetOf(
  container: TestNamespace,
  capabilityArgs: JsonObject = {},
  more: Partial<AttachmentTarget> = {},
): AttachmentTarget {
  return {
    containerId: container.name,
    netns: container.path,
    ifName: "eth0",
    args: [],
    capabilityArgs,
    ...more,
  };
}
