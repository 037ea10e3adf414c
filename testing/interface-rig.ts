import { existsSync, readdirSync } from "node:fs";
import { expect } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import type { Plugin } from "#cni/plugin.ts";
import type { PluginHost } from "#plugins/context.ts";
import { hostLocal } from "#plugins/host-local/main.ts";
import { staticIpam } from "#plugins/static/main.ts";
import { isAnswered, isSilent } from "./echo.ts";
import { type Answer, TestHost, type TestHostOptions, type VerbArguments } from "./plugin-host.ts";
import type { TestNamespace } from "./test-namespace.ts";

/** A container that was attached, as a test looks at it. */
export interface Attached {
  readonly container: TestNamespace;
  readonly containerId: string;
  readonly config: JsonObject;
  /** The result as it was printed. */
  readonly result: Result;
}

interface Result {
  readonly interfaces: readonly { name: string; mac: string; mtu: number; sandbox?: string }[];
  readonly ips: readonly { interface: number; address: string; gateway?: string }[];
  readonly routes?: readonly { dst: string; gw?: string }[];
  readonly dns?: JsonObject;
}

/** `ip -j link`, as far as tests look at it. */
export interface IpLink {
  readonly ifname: string;
  readonly address: string;
  readonly mtu: number;
  readonly operstate: string;
  readonly flags: readonly string[];
  readonly master?: string;
  readonly promiscuity: number;
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: Readonly<Record<string, unknown>>;
    readonly info_slave_data?: Readonly<Record<string, unknown>>;
  };
}

function withoutTimers(link: IpLink): unknown {
  const { ifname, address, mtu, operstate, flags, master, promiscuity, linkinfo } = link;
  const filtering = linkinfo?.info_data?.["vlan_filtering"];
  return {
    ifname,
    address,
    mtu,
    operstate,
    flags,
    master,
    promiscuity,
    kind: linkinfo?.info_kind,
    filtering,
  };
}

/** A host with one interface plugin, host-local and static, and iproute2 and nft as witnesses. */
export class InterfaceRig extends TestHost {
  readonly #plugin: Plugin<PluginHost>;

  constructor(plugin: Plugin<PluginHost>, options: TestHostOptions = {}) {
    super(plugin.name, { plugins: { "host-local": hostLocal, static: staticIpam }, ...options });
    this.#plugin = plugin;
  }

  config(extra: JsonObject = {}): JsonObject {
    return {
      cniVersion: "1.1.0",
      name: "net1",
      type: this.#plugin.name,
      ipam: { type: "host-local", ranges: [[{ subnet: "10.1.0.0/24" }]] },
      ...extra,
    };
  }

  /** An ADD that has to succeed, of a new container. */
  async attach(extra: JsonObject = {}, more: VerbArguments = {}): Promise<Attached> {
    const container = this.container();
    const containerId = more.containerId ?? container.name;
    const config = this.config(extra);
    const answer = await this.add(config, { netns: container.path, ...more, containerId });
    expect(answer.json, answer.stderr).not.toHaveProperty("code");
    return { container, containerId, config, result: answer.json as unknown as Result };
  }

  async add(config: JsonObject, args: VerbArguments): Promise<Answer> {
    return await this.call(this.#plugin, "ADD", config, { containerId: "c1", ifName: "eth0", ...args });
  }

  /** A DEL that has to succeed. Says nothing but what is given. */
  async detach(
    { containerId, config }: Pick<Attached, "containerId" | "config">,
    more: VerbArguments = {},
  ): Promise<void> {
    const answer = await this.call(this.#plugin, "DEL", config, { containerId, ifName: "eth0", ...more });
    expect(answer).toMatchObject({ exitCode: 0, json: {} });
  }

  async check({ containerId, config, container, result }: Attached): Promise<Answer> {
    return await this.call(
      this.#plugin,
      "CHECK",
      { ...config, prevResult: { cniVersion: "1.1.0", ...result } },
      { containerId, ifName: "eth0", netns: container.path },
    );
  }

  link(name: string, namespace: TestNamespace = this.namespace): IpLink {
    const [link] = JSON.parse(namespace.run(`ip -d -j link show dev ${name}`)) as IpLink[];
    if (!link) throw new Error(`${name} is not there`);
    return link;
  }

  links(namespace: TestNamespace = this.namespace): string[] {
    return (JSON.parse(namespace.run("ip -j link")) as IpLink[]).map(({ ifname }) => ifname).sort();
  }

  /** Whether one echo request is answered: for where it has to be. */
  reaches(from: TestNamespace, address: string): boolean {
    return isAnswered(from, address);
  }

  /** Whether one echo request is not answered: for where it must not be. */
  isSilent(from: TestNamespace, address: string): boolean {
    return isSilent(from, address);
  }

  /** `10.1.0.2/24 fd00::2/64`: everything but link-local addresses. */
  addresses(name: string, namespace: TestNamespace = this.namespace): string[] {
    const [link] = JSON.parse(namespace.run(`ip -j addr show dev ${name}`)) as {
      addr_info: { local: string; prefixlen: number; scope: string }[];
    }[];
    return (link?.addr_info ?? [])
      .filter(({ scope }) => scope === "global")
      .map(({ local, prefixlen }) => `${local}/${prefixlen}`);
  }

  sysctl(key: string, namespace: TestNamespace = this.namespace): string {
    return namespace.run(`cat /proc/sys/${key}`).trim();
  }

  /** Elements of our own sets and maps, without the markers of the skeleton: `masquerade4 10.1.0.2`. */
  elements(): string[] {
    const listing = JSON.parse(this.namespace.run("nft -j list ruleset")) as {
      nftables: { set?: { name: string; elem?: unknown[] } }[];
    };
    return listing.nftables
      .flatMap(({ set }) =>
        set ? (set.elem ?? []).map((element) => `${set.name} ${JSON.stringify(element)}`) : [],
      )
      .sort();
  }

  /** Everything that an ADD could change on the host, for a comparison: links, addresses, rules, sysctls and files. */
  snapshot(): unknown {
    const sysctls = this.namespace.run(
      "cd /proc/sys/net; grep . ipv4/ip_forward ipv6/conf/all/forwarding; grep -H . ipv6/conf/*/accept_ra",
    );
    return {
      links: (JSON.parse(this.namespace.run("ip -d -j link")) as IpLink[]).map(withoutTimers),
      addresses: this.links().map((name) => [name, this.addresses(name)]),
      routes: this.namespace.run("ip route show table all; ip -6 route show table all"),
      elements: this.elements(),
      sysctls,
      files: this.files(),
    };
  }

  /** Leases and journal records; not what only helps to find them. */
  files(): string[] {
    if (!existsSync(this.host.directories.state)) return [];
    return readdirSync(this.host.directories.state, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !/^(last_reserved_ip|lock|\.)/.test(entry.name))
      .map((entry) => `${entry.parentPath.slice(this.directory.length)}/${entry.name}`)
      .filter((path) => !path.includes("/."))
      .sort();
  }
}
