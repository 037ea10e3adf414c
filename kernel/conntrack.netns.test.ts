import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { parseIp } from "#net/ip.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { ask, askOnce, startServer } from "#testing/traffic.ts";
import { forgetUdpFlows } from "./conntrack.ts";
import { NetworkNamespace } from "./namespace.ts";

let host: TestNamespace;
let namespace: NetworkNamespace;

beforeEach(() => {
  host = TestNamespace.create("conntrack");
  // Connections are tracked where a rule asks for it.
  host.run(
    "ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo nodad;" +
      "nft 'add table inet t; add chain inet t o { type nat hook output priority -100; };" +
      "add rule inet t o udp dport 7777 dnat ip to 192.0.2.1:8888; add rule inet t o meta nfproto ipv6 ct state new';" +
      // The kernel makes an IPv6 address local on a work queue of its own.
      "for try in $(seq 200); do ip -6 route get 2001:db8::1 | grep -q local && break; sleep 0.05; done",
  );
  namespace = NetworkNamespace.open(host.path);
});

afterEach(() => {
  namespace.close();
  host.remove();
});

/** One datagram each; nobody answers. */
async function send(...targets: readonly (readonly [to: string, port: number])[]): Promise<void> {
  await ask(
    host,
    targets.map(([to, port]) => ({ protocol: "udp", to, port })),
  );
}

/** `udp 127.0.0.1:53`, as `conntrack` shows it. */
function flows(): string[] {
  const list = host.run("conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
  return [...list.matchAll(/^(udp|tcp) .*?src=\S+ dst=(\S+) sport=\d+ dport=(\d+)/gmu)]
    .map(([, protocol, destination, port]) => `${protocol} ${destination}:${port}`)
    .sort();
}

describe("forgetUdpFlows", () => {
  it("forgets flows to a port and leaves other ports, TCP and the other family alone", async () => {
    await send(["127.0.0.1", 53], ["192.0.2.1", 53], ["127.0.0.1", 54], ["2001:db8::1", 53]);
    const stop = await startServer(host, "server", [53]);
    await askOnce(host, { protocol: "tcp", to: "127.0.0.1", port: 53 });
    stop();
    expect(flows()).toContain("udp 127.0.0.1:53");
    expect(await forgetUdpFlows(namespace, [{ family: 4, first: 53, last: 53 }])).toBe(2);
    expect(flows()).toEqual(["tcp 127.0.0.1:53", "udp 127.0.0.1:54", "udp 2001:db8::1:53"]);
    expect(await forgetUdpFlows(namespace, [{ family: 6, first: 53, last: 53 }])).toBe(1);
    expect(flows()).toEqual(["tcp 127.0.0.1:53", "udp 127.0.0.1:54"]);
  });

  it("forgets only those to one address", async () => {
    await send(["127.0.0.1", 53], ["192.0.2.1", 53]);
    await forgetUdpFlows(namespace, [
      { family: 4, first: 53, last: 53, destinations: [parseCidr("192.0.2.1/32")] },
    ]);
    expect(flows()).toEqual(["udp 127.0.0.1:53"]);
  });

  it("forgets only those that were led to an address", async () => {
    await send(["127.0.0.1", 7777], ["127.0.0.1", 53]);
    const everywhere = { family: 4, first: 1, last: 65535 } as const;
    expect(await forgetUdpFlows(namespace, [{ ...everywhere, translatedTo: parseIp("10.0.0.9") }])).toBe(0);
    expect(await forgetUdpFlows(namespace, [{ ...everywhere, translatedTo: parseIp("192.0.2.1") }])).toBe(1);
    expect(flows()).toEqual(["udp 127.0.0.1:53"]);
  });

  it("takes many ports at once, single and in ranges", async () => {
    await send(...Array.from({ length: 12 }, (_, index) => ["127.0.0.1", 1000 + index] as const));
    const single = [1000, 1001, 1002, 1003, 1004, 1005].map((port) => ({
      family: 4 as const,
      first: port,
      last: port,
    }));
    expect(await forgetUdpFlows(namespace, single)).toBe(6);
    expect(await forgetUdpFlows(namespace, [{ family: 4, first: 1006, last: 1010 }])).toBe(5);
    expect(flows()).toEqual(["udp 127.0.0.1:1011"]);
    expect(await forgetUdpFlows(namespace, [])).toBe(0);
  });
});
