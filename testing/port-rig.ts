import { expect } from "vitest";
import type { JsonObject, JsonValue } from "#cni/json.ts";
import type { Verb } from "#cni/plugin.ts";
import { bridge } from "#plugins/bridge/main.ts";
import { hostLocal } from "#plugins/host-local/main.ts";
import { portmap } from "#plugins/portmap/main.ts";
import { type Answer, TestHost, type VerbArguments } from "./plugin-host.ts";
import { TestNamespace } from "./test-namespace.ts";
import { startServer } from "./traffic.ts";

/** A container behind bridge and portmap. */
export interface Published {
  readonly container: TestNamespace;
  readonly containerId: string;
  /** Without prefix length. */
  readonly ip4: string;
  readonly ip6: string;
  /** The bridge's result. */
  readonly result: JsonObject;
}

export interface AttachOptions extends VerbArguments {
  /** Fields of portmap. */
  readonly fields?: JsonObject;
  readonly mappings?: readonly JsonObject[];
  readonly network?: string;
  /** Fields of the bridge; the same for all containers of one network. */
  readonly bridgeFields?: JsonObject;
  /** The container to attach; a new one if absent. */
  readonly to?: TestNamespace;
}

/** A network named "net3" has the subnets 10.3.0.0/24 and fd00:3::/64, and the bridge "br-net3". */
function subnetsOf(network: string): readonly [v4: string, v6: string] {
  const number = /^net(\d)$/u.exec(network)?.[1];
  if (number === undefined) throw new Error(`${network} is no name for a network here`);
  return [`10.${number}.0`, `fd00:${number}:`];
}

/**
 * A host with networks of the bridge plugin and the chained portmap, and a neighbour on its LAN: the host is
 * 192.0.2.1 and 2001:db8::1, the neighbour .2 and ::2, which knows no way to the containers.
 */
export class PortRig extends TestHost {
  readonly lan: TestNamespace;
  readonly #stops: (() => void)[] = [];

  constructor() {
    super("portmap", { plugins: { "host-local": hostLocal } });
    this.lan = TestNamespace.create("lan");
    this.namespace.run(`ip link add up0 type veth peer name eth0 netns ${this.lan.name}; ip link set up0 up`);
    this.namespace.run("ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad");
    this.lan.run(
      "ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad",
    );
  }

  /** Attaches a container and publishes its ports; both have to succeed. */
  async attach(options: AttachOptions = {}): Promise<Published> {
    const attached = await this.attachOnly(options);
    const answer = await this.portmap("ADD", attached, options);
    expect(answer.json, answer.stderr).not.toHaveProperty("code");
    expect(answer.json).toEqual(attached.result);
    return attached;
  }

  /** The bridge's part of it. */
  async attachOnly({
    network = "net1",
    bridgeFields = {},
    to,
    ...args
  }: AttachOptions = {}): Promise<Published> {
    const container = to ?? this.container();
    const containerId = args.containerId ?? container.name;
    const [v4, v6] = subnetsOf(network);
    const config = {
      cniVersion: "1.1.0",
      name: network,
      type: "bridge",
      bridge: `br-${network}`,
      isDefaultGateway: to === undefined,
      isGateway: true,
      ipMasq: true,
      ipam: { type: "host-local", ranges: [[{ subnet: `${v4}.0/24` }], [{ subnet: `${v6}:/64` }]] },
      ...bridgeFields,
    };
    const answer = await this.call(bridge, "ADD", config, {
      ifName: "eth0",
      netns: container.path,
      ...args,
      containerId,
    });
    expect(answer.json, answer.stderr).not.toHaveProperty("code");
    const ips = answer.json["ips"] as unknown as readonly { address: string }[];
    const [ip4 = "", ip6 = ""] = ips.map(({ address }) => address.split("/")[0] ?? "");
    return { container, containerId, ip4, ip6, result: answer.json };
  }

  /** The bridge's DEL, as runtimes call it when they know nothing any more. */
  async detach(containerId: string, network = "net1"): Promise<void> {
    const config = { cniVersion: "1.1.0", name: network, type: "bridge", bridge: `br-${network}` };
    const answer = await this.call(bridge, "DEL", config, { containerId, ifName: "eth0" });
    expect(answer).toMatchObject({ exitCode: 0, json: {} });
  }

  /** One verb of portmap, with the mappings and the fields given. */
  async portmap(
    verb: Verb,
    { container, containerId, result }: Pick<Published, "container" | "containerId" | "result">,
    {
      fields = {},
      mappings,
      network = "net1",
      ...args
    }: AttachOptions & { readonly prevResult?: JsonValue } = {},
  ): Promise<Answer> {
    const config = {
      cniVersion: "1.1.0",
      name: network,
      type: "portmap",
      capabilities: { portMappings: true },
      ...(mappings ? { runtimeConfig: { portMappings: [...mappings] } } : {}),
      prevResult: result,
      ...fields,
    };
    return await this.call(portmap, verb, config, {
      ifName: "eth0",
      netns: container.path,
      containerId,
      ...args,
    });
  }

  /** DEL as runtimes call it when they know nothing any more: neither netns, nor result, nor ports. */
  async forget(containerId: string, network = "net1", ifName = "eth0"): Promise<void> {
    const config = { cniVersion: "1.1.0", name: network, type: "portmap" };
    const answer = await this.call(portmap, "DEL", config, { containerId, ifName });
    expect(answer).toMatchObject({ exitCode: 0, json: {} });
  }

  /** Starts a server that ends with the test. */
  async serve(namespace: TestNamespace, name: string, ports: readonly number[]): Promise<void> {
    this.#stops.push(await startServer(namespace, name, ports));
  }

  /** Elements that belong to attachments' ports: `ports4 tcp . 8080 : 10.1.0.2 . 80`. */
  elements(): readonly string[] {
    const listing = this.namespace.run("nft list table inet netctl 2>/dev/null || true");
    const found: string[] = [];
    for (const [, name = "", body = ""] of listing.matchAll(/^\t(?:set|map) (\w+) \{\n(.*?)\n\t\}/gmsu)) {
      const elements = /elements = \{(.*)\}/su.exec(body)?.[1] ?? "";
      if (!/^(host_)?port|^hairpin/u.test(name)) continue;
      for (const element of elements.split(/,\s*(?=[0-9a-f:]|tcp|udp|sctp)/u)) {
        const text = element.replace(/ comment "[^"]*"/gu, "").trim();
        if (text) found.push(`${name} ${text}`);
      }
    }
    return found.sort();
  }

  override async close(): Promise<void> {
    for (const stop of this.#stops) stop();
    await super.close();
    this.lan.remove();
  }
}
