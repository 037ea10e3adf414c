import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BuiltService } from "./netd-lab.ts";
import { NetdLab } from "./netd-lab.ts";
import type { TestNamespace } from "./test-namespace.ts";

const root = join(import.meta.dirname, "..");

export interface ContainerOptions {
  readonly names?: readonly string[];
  /** In place of `net1`, or several. */
  readonly networks?: readonly string[];
  /** Fields of the dns plugin. */
  readonly dns?: Readonly<Record<string, unknown>>;
  /** The capability `dns`. */
  readonly asked?: Readonly<Record<string, unknown>>;
}

/** One container of the rig. */
export interface RigContainer {
  readonly id: string;
  readonly namespace: TestNamespace;
  /** By network: the result of its dns plugin. */
  readonly results: Readonly<Record<string, Result>>;
  readonly options: ContainerOptions;
}

interface Result {
  readonly ips: readonly { readonly address: string }[];
  readonly dns: Readonly<Record<string, unknown>>;
}

/** Networks of bridge and dns on one host, with netd, and name servers outside: `10.9.0.1` and `10.9.0.2`. */
export class NamesRig extends NetdLab {
  readonly #servers: ChildProcess[] = [];
  #networks = 0;
  readonly #subnets = new Map<string, number>();

  constructor(service: BuiltService) {
    super(service);
    this.setServers("10.9.0.1", "10.9.0.2");
    this.host.run("ip addr add 10.9.0.1/32 dev lo; ip addr add 10.9.0.2/32 dev lo");
  }

  override get environment(): Record<string, string> {
    return { ...super.environment, NETCTL_RESOLV_CONF: this.path("resolv.conf"), NETCTL_LOG_LEVEL: "debug" };
  }

  /** The host's resolv.conf. */
  setServers(...addresses: readonly string[]): void {
    writeFileSync(this.path("resolv.conf"), addresses.map((each) => `nameserver ${each}\n`).join(""));
  }

  /** Starts testing/upstream-server.mjs; ends with the rig. */
  async startServer(
    address: string,
    label: string,
    namespace: TestNamespace = this.host,
  ): Promise<ChildProcess> {
    const script = join(root, "testing/upstream-server.mjs");
    const args = [`--net=${namespace.path}`, process.execPath, script, address, label];
    const child = spawn("nsenter", args, { stdio: ["ignore", "pipe", "inherit"] });
    this.#servers.push(child);
    await new Promise((resolve, reject) => {
      child.stdout.once("data", resolve);
      child.once("exit", () => reject(new Error("the name server has ended")));
    });
    return child;
  }

  #subnetOf(network: string): number {
    const known = this.#subnets.get(network);
    if (known !== undefined) return known;
    const next = ++this.#networks;
    this.#subnets.set(network, next);
    return next;
  }

  /** Attaches a container to its networks, as a runtime does. @throws with the plugin's error */
  async container(id: string, options: ContainerOptions = {}): Promise<RigContainer> {
    const namespace = this.namespace(`names-${id}`);
    const results: Record<string, Result> = {};
    for (const [index, network] of (options.networks ?? ["net1"]).entries()) {
      results[network] = await this.attach({ id, namespace, network, index, options });
    }
    return { id, namespace, results, options };
  }

  async attach(at: {
    readonly id: string;
    readonly namespace: TestNamespace;
    readonly network: string;
    readonly index: number;
    readonly options: ContainerOptions;
  }): Promise<Result> {
    const { id, namespace, network, index, options } = at;
    const subnet = this.#subnetOf(network);
    const environment = { CNI_IFNAME: `eth${index}` };
    const bridge = this.config({
      name: network,
      bridge: `br${subnet}`,
      ipam: {
        type: "host-local",
        ranges: [[{ subnet: `10.1.${subnet}.0/24` }], [{ subnet: `fd00:${subnet}::/64` }]],
      },
    });
    const attached = await this.call("ADD", {
      containerId: id,
      netns: namespace.path,
      config: bridge,
      environment,
    });
    if (attached.exitCode !== 0) throw new Error(attached.stdout);
    const config = this.dnsConfig(network, JSON.parse(attached.stdout), options);
    const named = await this.call("ADD", {
      plugin: "dns",
      containerId: id,
      netns: namespace.path,
      config,
      environment,
    });
    if (named.exitCode !== 0) throw new Error(named.stdout);
    return JSON.parse(named.stdout) as Result;
  }

  dnsConfig(network: string, prevResult: unknown, { names, dns, asked }: ContainerOptions) {
    return {
      cniVersion: "1.1.0",
      name: network,
      type: "dns",
      ...dns,
      runtimeConfig: {
        ...(names ? { aliases: { [network]: names } } : {}),
        ...(asked ? { dns: asked } : {}),
      },
      prevResult,
    };
  }

  /** DEL of the dns plugin alone: the bridge's has nothing to do with names. */
  async detach({ id, namespace, options }: RigContainer, network = "net1"): Promise<void> {
    const index = (options.networks ?? ["net1"]).indexOf(network);
    const config = { cniVersion: "1.1.0", name: network, type: "dns" };
    const environment = { CNI_IFNAME: `eth${index}` };
    const ended = await this.call("DEL", {
      plugin: "dns",
      containerId: id,
      netns: namespace.path,
      config,
      environment,
    });
    if (ended.exitCode !== 0) throw new Error(ended.stdout);
  }

  /** `dig +short` in a container, sorted; @param words after the server's address */
  dig({ namespace }: Pick<RigContainer, "namespace">, words: string): readonly string[] {
    const text = namespace.run(`dig +short +tries=1 +time=20 @127.0.0.11 ${words} || true`);
    return text
      .split("\n")
      .filter((line) => line !== "")
      .sort();
  }

  /** The whole answer as dig prints it. */
  digWhole({ namespace }: Pick<RigContainer, "namespace">, words: string): string {
    return namespace.run(`dig +tries=1 +time=20 @127.0.0.11 ${words} || true`);
  }

  override async remove(): Promise<void> {
    for (const child of this.#servers) child.kill("SIGKILL");
    await super.remove();
  }
}

/** The addresses of a container in a network, without prefix lengths. */
export function addressesOf({ results }: RigContainer, network = "net1"): readonly string[] {
  return (results[network]?.ips ?? []).map(({ address }) => address.replace(/\/.*/, ""));
}
