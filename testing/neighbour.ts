import { TestNamespace } from "./test-namespace.ts";

/**
 * Somebody on the host's LAN, who knows no way to the containers: 192.0.2.2 and 2001:db8::2 at `eth0`. The host gets
 * `up0`, with 192.0.2.1 and 2001:db8::1. The caller removes it.
 */
export function neighbourOf(host: TestNamespace, hint: string): TestNamespace {
  const neighbour = TestNamespace.create(hint);
  host.run(`ip link add up0 type veth peer name eth0 netns ${neighbour.name}; ip link set up0 up`);
  host.run("ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad");
  neighbour.run("ip link set eth0 up");
  neighbour.run("ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad");
  return neighbour;
}
