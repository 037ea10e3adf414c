import { TestNamespace } from "./test-namespace.ts";

/** Hosts on one wire: namespaces of a test, joined by a bridge in one more. Host N has 203.0.113.N and 2001:db8:ff::N. */
export class Underlay {
  readonly wire: TestNamespace;
  readonly hosts: readonly TestNamespace[];

  private constructor(wire: TestNamespace, hosts: readonly TestNamespace[]) {
    this.wire = wire;
    this.hosts = hosts;
  }

  static create(hint: string, count: number): Underlay {
    const wire = TestNamespace.create(`${hint}-wire`);
    wire.run("ip link add wire type bridge; sysctl -qw net.ipv6.conf.wire.accept_dad=0; ip link set wire up");
    // The wire is a host as well, for whatever all others ask: an etcd, say.
    wire.run("ip address add 203.0.113.254/24 dev wire; ip address add 2001:db8:ff::fe/64 dev wire nodad");
    const hosts = Array.from({ length: count }, (_, index) => {
      const host = TestNamespace.create(`${hint}-h${index + 1}`);
      wire.run(
        `ip link add p${index + 1} type veth peer name up0 netns ${host.name}; ip link set p${index + 1} master wire up`,
      );
      host.run(`sysctl -qw net.ipv6.conf.up0.accept_dad=0 net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        ip link set up0 up
        ip address add 203.0.113.${index + 1}/24 dev up0
        ip address add 2001:db8:ff::${index + 1}/64 dev up0 nodad
        ip route add default via 203.0.113.254`);
      return host;
    });
    return new Underlay(wire, hosts);
  }

  /** Host 1 is the first. */
  host(number: number): TestNamespace {
    const host = this.hosts[number - 1];
    if (!host) throw new Error(`There is no host ${number}`);
    return host;
  }

  remove(): void {
    for (const host of this.hosts) host.remove();
    this.wire.remove();
  }
}
