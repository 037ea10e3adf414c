import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseCidr } from "#net/cidr.ts";
import { patience } from "#testing/patience.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { masqueradeElements, masqueradeRefs } from "./masquerade.ts";
import { Nftables } from "./nftables.ts";
import { ownerTag } from "./owner.ts";

/** Tells each TCP client the address it comes from, and prints where multicast datagrams come from. */
const listener = `
  const plain = (address) => address.replace("::ffff:", "");
  const server = require("node:net").createServer((socket) => {
    socket.on("error", () => {});
    socket.end(plain(socket.remoteAddress) + "\\n");
  });
  const multicast = require("node:dgram").createSocket("udp4");
  multicast.on("message", (_, from) => console.log(plain(from.address)));
  multicast.bind(5353, () => {
    multicast.addMembership("224.0.0.251", process.argv[1]);
    server.listen(8080, "::", () => console.log("ready"));
  });
`;

const namespaces: TestNamespace[] = [];
const listeners: ChildProcess[] = [];
let host: TestNamespace;
let outside: TestNamespace;
let c1: TestNamespace;
let c2: TestNamespace;
let neighbour: TestNamespace;
let nftables: Nftables;
const owner = ownerTag("net", "c1", "eth0");
const addresses = ["10.88.0.2/24", "fd88::2/64"].map(parseCidr);

function namespace(hint: string): TestNamespace {
  const made = TestNamespace.create(hint);
  namespaces.push(made);
  return made;
}

/** A container on the bridge: number 2 has 10.88.0.2 and fd88::2. */
function container(hint: string, bridge: string, network: number, number: number): TestNamespace {
  const made = namespace(hint);
  host.run(`
    ip link add ${hint} type veth peer name eth0 netns ${made.name}
    ip link set ${hint} master ${bridge} up`);
  made.run(`
    ip link set eth0 up
    ip address add 10.${network}.0.${number}/24 dev eth0
    ip address add fd${network}::${number}/64 dev eth0 nodad
    ip route add default via 10.${network}.0.1
    ip route add default via fd${network}::1`);
  return made;
}

async function listen(on: TestNamespace, multicastAddress: string): Promise<ChildProcess> {
  const child = spawn("nsenter", [`--net=${on.path}`, process.execPath, "-e", listener, multicastAddress], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  listeners.push(child);
  await once(child.stdout, "data");
  return child;
}

/** The address that the other side sees, or "" if nothing comes back within so many seconds. */
function seenWithin(seconds: number, address: string, from: TestNamespace): string {
  const ask = `exec 3<>/dev/tcp/${address}/8080 && cat <&3`;
  return from.run(`timeout ${seconds * patience} bash -c '${ask}' 2>/dev/null || true`).trim();
}

/** The address that the other side sees, which has to answer: asked again where it does not. */
function seenBy(address: string, from: TestNamespace): string {
  for (let attempt = 0; attempt < 5; attempt++) {
    const seen = seenWithin(4, address, from);
    if (seen !== "") return seen;
  }
  return "";
}

beforeAll(async () => {
  host = namespace("host");
  outside = namespace("outside");
  host.run(`
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
    for net in 88 89; do
      ip link add br$net type bridge forward_delay 0 mcast_snooping 0
      ip address add 10.$net.0.1/24 dev br$net
      ip address add fd$net::1/64 dev br$net nodad
      ip link set br$net up
    done
    ip link add uplink type veth peer name eth0 netns ${outside.name}
    ip address add 192.0.2.1/24 dev uplink
    ip address add 2001:db8::1/64 dev uplink nodad
    ip link set uplink up
    sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1`);
  outside.run(`
    ip address add 192.0.2.2/24 dev eth0
    ip address add 2001:db8::2/64 dev eth0 nodad
    ip link set eth0 up`);
  c1 = container("c1", "br88", 88, 2);
  c2 = container("c2", "br88", 88, 3);
  neighbour = container("other", "br89", 89, 2);
  await Promise.all([
    listen(outside, "192.0.2.2"),
    listen(c1, "10.88.0.2"),
    listen(c2, "10.88.0.3"),
    listen(neighbour, "10.89.0.2"),
  ]);
  nftables = new Nftables({ namespacePath: host.path });
});

afterAll(() => {
  nftables.close();
  for (const child of listeners) child.kill("SIGKILL");
  for (const each of namespaces) each.remove();
});

// One after the other: each begins with what the one before has left.
describe("masqueradeElements", { shuffle: false }, () => {
  it("let a container reach the outside under the host's address, in both families", async () => {
    expect(seenWithin(2, "192.0.2.2", c1)).toBe("");
    expect(seenWithin(2, "2001:db8::2", c1)).toBe("");
    await nftables.apply(masqueradeElements({ addresses, owner }));
    expect(seenBy("192.0.2.2", c1)).toBe("192.0.2.1");
    expect(seenBy("2001:db8::2", c1)).toBe("2001:db8::1");
  });

  it("leave the container its own address within its subnet, though bridge-nf shows the packets to nftables", () => {
    expect(seenBy("10.88.0.3", c1)).toBe("10.88.0.2");
    expect(seenBy("fd88::3", c1)).toBe("fd88::2");
    expect(seenBy("10.88.0.2", c2)).toBe("10.88.0.3");
    // What this would be without the set of subnets: so the packets do pass here.
    host.run("nft flush set inet netctl same_subnet4; nft flush set inet netctl same_subnet6");
    expect(seenBy("10.88.0.3", c1)).toBe("10.88.0.1");
    expect(seenBy("fd88::3", c1)).toBe("fd88::1");
  });

  it("come back with the next attachment", async () => {
    await nftables.apply(masqueradeElements({ addresses, owner }));
    expect(seenBy("10.88.0.3", c1)).toBe("10.88.0.2");
  });

  it("masquerade towards another network, as the reference does", () => {
    expect(seenBy("10.89.0.2", c1)).toBe("10.89.0.1");
    expect(seenBy("fd89::2", c1)).toBe("fd89::1");
  });

  it("leave the traffic of others alone", () => {
    outside.run("ip route add 10.88.0.0/23 via 192.0.2.1; ip -6 route add fd88::/64 via 2001:db8::1");
    expect(seenBy("192.0.2.2", c2)).toBe("10.88.0.3");
    expect(seenBy("2001:db8::2", c2)).toBe("fd88::3");
    expect(seenBy("10.88.0.2", outside)).toBe("192.0.2.2");
    expect(seenBy("fd88::2", outside)).toBe("2001:db8::2");
    expect(seenBy("10.88.0.2", host)).toBe("10.88.0.1");
  });

  it("leave multicast alone", async () => {
    const receiver = listeners[2];
    if (!receiver?.stdout) throw new Error("no listener");
    const heard = once(receiver.stdout, "data");
    c1.run("ip route add 224.0.0.0/4 dev eth0; bash -c 'echo hello > /dev/udp/224.0.0.251/5353'");
    const [from] = (await heard) as [Buffer];
    expect(from.toString().trim()).toBe("10.88.0.2");
  });

  it("end with the attachment", async () => {
    outside.run("ip route delete 10.88.0.0/23; ip -6 route delete fd88::/64");
    await nftables.removeOwned(masqueradeRefs(addresses), owner);
    expect(seenWithin(2, "192.0.2.2", c1)).toBe("");
    expect(seenWithin(2, "2001:db8::2", c1)).toBe("");
  });
});
