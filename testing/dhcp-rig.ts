import type { JsonObject } from "#cni/json.ts";
import type { Verb } from "#cni/plugin.ts";
import { LeaseKeeper } from "#dhcp/keeper.ts";
import type { LeaseProtocol } from "#dhcp/lease-protocol.ts";
import { LeaseStore } from "#dhcp/lease-store.ts";
import type { LeaseTimes } from "#dhcp/lease-times.ts";
import { secondsSinceBoot } from "#dhcp/uptime.ts";
import { dhcp } from "#plugins/dhcp/main.ts";
import { DhcpServer } from "./dhcp-server.ts";
import { type Answer, TestHost, type VerbArguments } from "./plugin-host.ts";
import type { TestNamespace } from "./test-namespace.ts";

/**
 * A container whose eth0 leads to up0 of another machine (10.1.0.1, fd00:1::1), on which servers can be started. Its
 * kernel looks for no duplicates, so that its link-local address is there at once.
 */
export class DhcpRig {
  readonly host: TestHost;
  readonly lan: TestNamespace;
  readonly container: TestNamespace;
  readonly key = { network: "net1", containerId: "c1", ifName: "eth0" };
  readonly #servers: DhcpServer[] = [];

  constructor() {
    this.host = new TestHost("dhcp", { plugins: { dhcp } });
    this.lan = this.host.container("lan");
    this.container = this.host.container();
    for (const each of [this.lan, this.container]) {
      each.run("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    }
    this.lan.run(`ip link add up0 type veth peer name eth0 netns ${this.container.name}
      ip addr add 10.1.0.1/24 dev up0; ip addr add fd00:1::1/64 dev up0 nodad; ip link set up0 up`);
    // Who keeps leases is of the tests' own making.
    this.host.replace({ names: { ...this.host.host.names, probe: async () => {} } });
  }

  /** Debian's dnsmasq on up0. */
  async serve(...options: string[]): Promise<DhcpServer> {
    const server = await DhcpServer.start(this.lan, "up0", options);
    this.#servers.push(server);
    return server;
  }

  /** The ISC's server for DHCPv6 on up0. */
  async serveIsc6(config: string): Promise<DhcpServer> {
    const server = await DhcpServer.startIsc6(this.lan, "up0", config);
    this.#servers.push(server);
    return server;
  }

  /**
   * A further machine on the wire, with this address on its up0; dnsmasq runs there with these options, if there are any.
   */
  async neighbour(address: string, ...options: string[]): Promise<DhcpServer | undefined> {
    const machine = this.host.container("neighbour");
    if (!this.lan.run("ip -o link").includes("lan0")) {
      // up0 becomes a port; its machine goes on with the bridge's other end.
      this.lan.run(`ip link add lan0 type bridge; ip link set lan0 up; ip link set up0 name port0 master lan0
        ip addr flush dev port0; ip link add up0 type veth peer name port1; ip link set port1 master lan0 up
        ip addr add 10.1.0.1/24 dev up0; ip addr add fd00:1::1/64 dev up0 nodad; ip link set up0 up; ip link set port0 up`);
    }
    const port = `wire${this.#servers.length}`;
    machine.run(`echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
      ip link add up0 type veth peer name ${port} netns ${this.lan.name}
      ip addr add ${address} dev up0 nodad; ip link set up0 up`);
    this.lan.run(`ip link set ${port} master lan0 up`);
    if (options.length === 0) return undefined;
    const server = await DhcpServer.start(machine, "up0", options);
    this.#servers.push(server);
    return server;
  }

  async call(
    verb: Verb,
    ipam: JsonObject = {},
    more: JsonObject = {},
    args: VerbArguments = {},
  ): Promise<Answer> {
    const config = {
      cniVersion: "1.1.0",
      name: "net1",
      type: "macvlan",
      ipam: { type: "dhcp", ...ipam },
      ...more,
    };
    const where = { containerId: "c1", ifName: "eth0", netns: this.container.path };
    return await this.host.call(dhcp, verb, config, { ...where, ...args });
  }

  /** An ADD that has to succeed. */
  async add(ipam: JsonObject = {}, args: VerbArguments = {}): Promise<JsonObject> {
    const { json } = await this.call("ADD", ipam, {}, args);
    if ("code" in json) throw new Error(`ADD failed: ${JSON.stringify(json)}`);
    return json;
  }

  store<Identity, Lease extends { readonly times: LeaseTimes }>({
    format,
  }: LeaseProtocol<Identity, Lease>): LeaseStore<Identity, Lease> {
    return new LeaseStore(format, this.host.host.directories);
  }

  /** As in a netd whose clock is that much ahead. */
  keeper<Identity, Lease extends { readonly times: LeaseTimes }>(
    protocol: LeaseProtocol<Identity, Lease>,
    aheadSeconds: () => number,
  ): LeaseKeeper<Identity, Lease> {
    const { kernel, bootId, hostNamespace, log } = this.host.host;
    return new LeaseKeeper({
      protocol,
      store: this.store(protocol),
      bootId,
      hostNamespace,
      log,
      open: (target) => kernel.open(target),
      now: () => secondsSinceBoot() + aheadSeconds(),
    });
  }

  /** Whether the container's interface is. */
  isUp(): boolean {
    const [link] = this.container.json<{ flags: readonly string[] }>("ip -j link show dev eth0");
    return link?.flags.includes("UP") === true;
  }

  async close(): Promise<void> {
    for (const server of this.#servers) await server.stop();
    await this.host.close();
  }
}
