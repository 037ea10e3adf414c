import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseIp } from "#net/ip.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { Nftables } from "./nftables.ts";
import { ownerTag } from "./owner.ts";
import { PortTakenError, type PublishedPorts, portRefs } from "./ports.ts";
import { publishPorts } from "./publish.ts";

let host: TestNamespace;
let nftables: Nftables;

beforeEach(() => {
  host = TestNamespace.create("ports");
  nftables = new Nftables({ namespacePath: host.path });
});

afterEach(() => {
  nftables.close();
  host.remove();
});

/** `8080-8090:80`, `127.0.0.1:53:53/udp` */
function ports(text: string, container = "10.1.0.2"): PublishedPorts {
  const match = /^(?:(.+):)?(\d+)(?:-(\d+))?:(\d+)(?:\/(\w+))?$/.exec(text);
  const [, hostIp, first, last, containerPort, protocol = "tcp"] = match ?? [];
  return {
    protocol: protocol as PublishedPorts["protocol"],
    hostIp: hostIp === undefined ? undefined : parseIp(hostIp),
    hostPorts: { first: Number(first), last: Number(last ?? first) },
    container: parseIp(container),
    containerPort: Number(containerPort),
  };
}

interface Publisher {
  readonly owner: ReturnType<typeof ownerTag>;
  readonly containerId: string;
}
const publisher = (containerId: string, network = "net"): Publisher => ({
  owner: ownerTag(network, containerId, "eth0"),
  containerId,
});
const alice = publisher("alice");
const bob = publisher("bob");

const publish = (who: Publisher, ...published: PublishedPorts[]) => publishPorts(nftables, published, who);

function listed(map: string): string {
  const text = host.run(`nft list map inet netctl ${map}`).replace(/\s+/gu, " ");
  return (/elements = \{ (.*?) \}/u.exec(text)?.[1] ?? "").replace(/ comment "[^"]*"/gu, "");
}

describe("publishPorts", () => {
  it("makes one element for a port and one for a range, in both families, on all addresses or one", async () => {
    await publish(
      alice,
      ports("8080:80"),
      ports("53:53/udp"),
      ports("192.0.2.1:9000:9000/sctp"),
      ports("2000-2999:2000"),
      ports("192.0.2.1:3000-3999:3000/udp"),
      ports("7000-7001:8000"),
      ports("8080:80", "fd00::2"),
      ports("2001:db8::1:4000-4999:4000", "fd00::2"),
    );
    expect(listed("ports4").split(", ").sort()).toEqual([
      "tcp . 7000 : 10.1.0.2 . 8000",
      "tcp . 7001 : 10.1.0.2 . 8001",
      "tcp . 8080 : 10.1.0.2 . 80",
      "udp . 53 : 10.1.0.2 . 53",
    ]);
    expect(listed("host_ports4")).toBe("192.0.2.1 . sctp . 9000 : 10.1.0.2 . 9000");
    expect(listed("port_ranges4")).toBe("tcp . 2000-2999 : 10.1.0.2");
    expect(listed("host_port_ranges4")).toBe("192.0.2.1 . udp . 3000-3999 : 10.1.0.2");
    expect(listed("ports6")).toBe("tcp . 8080 : fd00::2 . 80");
    expect(listed("host_port_ranges6")).toBe("2001:db8::1 . tcp . 4000-4999 : fd00::2");
  });

  it("gives everything back to its owner", async () => {
    const all = [ports("8080:80"), ports("2000-2999:2000"), ports("192.0.2.1:3000-3999:3000/udp")];
    await publish(alice, ...all);
    await nftables.removeOwned(all.flatMap(portRefs), bob.owner);
    expect(listed("ports4")).not.toBe("");
    await nftables.removeOwned(all.flatMap(portRefs), alice.owner);
    expect(["ports4", "port_ranges4", "host_port_ranges4"].map(listed)).toEqual(["", "", ""]);
  });

  /** Every way in which two claims can meet, and whether both may be had. */
  it.each([
    ["8080:80", "8080:81", false],
    ["8080:80", "8080:80", false],
    ["8080:80", "8080:80/udp", true],
    ["8080:80", "8081:80", true],
    ["192.0.2.1:8080:80", "8080:80", false],
    ["8080:80", "192.0.2.1:8080:80", false],
    ["192.0.2.1:8080:80", "192.0.2.1:8080:80", false],
    ["192.0.2.1:8080:80", "192.0.2.2:8080:80", true],
    ["8000-8100:8000", "8080:80", false],
    ["8080:80", "8000-8100:8000", false],
    ["8000-8100:8000", "8050-8150:8050", false],
    ["8050-8100:8050", "8000-8150:8000", false],
    ["8000-8150:8000", "8050-8100:8050", false],
    ["8000-8100:8000", "8101-8200:8101", true],
    ["8000-8100:8000", "192.0.2.1:8080:80", false],
    ["192.0.2.1:8080:80", "8000-8100:8000", false],
    ["192.0.2.1:8000-8100:8000", "8080:80", false],
    ["8080:80", "192.0.2.1:8000-8100:8000", false],
    ["192.0.2.1:8000-8100:8000", "192.0.2.2:8000-8100:8000", true],
    ["192.0.2.1:8000-8100:8000", "8000-8100:8000", false],
    ["8000-8100:8000", "192.0.2.1:8050-8150:8050", false],
    ["1000-9000:2000", "8080:80", false],
    ["8080:80", "1000-9000:2000", false],
    ["192.0.2.1:8080:80", "1000-9000:2000", false],
  ])("after %s, another container's %s: %s", async (first, second, isFree) => {
    await publish(alice, ports(first));
    const before = host.run("nft list ruleset");
    const attempt = publish(bob, ports(second, "10.1.0.3"));
    if (isFree) {
      await attempt;
      return;
    }
    await expect(attempt).rejects.toThrow(PortTakenError);
    await expect(attempt).rejects.toThrow(
      /^Cannot publish [\d.]+:[\d-]+\/tcp: port is already allocated to container "alice" \(eth0, network "net"\)$/,
    );
    expect(host.run("nft list ruleset")).toBe(before);
    await nftables.removeOwned(portRefs(ports(first)), alice.owner);
    await publish(bob, ports(second, "10.1.0.3"));
  });

  it("keeps the families apart", async () => {
    await publish(alice, ports("8080:80"));
    await publish(bob, ports("8080:80", "fd00::3"));
    expect(listed("ports6")).toBe("tcp . 8080 : fd00::3 . 80");
  });

  it("does nothing at all where only one of many ports is taken", async () => {
    await publish(alice, ports("8080:80"));
    const many = [ports("1000-5000:2000", "10.1.0.3"), ports("8080:80", "10.1.0.3")];
    await expect(publish(bob, ...many)).rejects.toThrow("0.0.0.0:8080/tcp");
    expect(listed("ports4")).toBe("tcp . 8080 : 10.1.0.2 . 80");
  });

  it("replaces what the same owner has published there before", async () => {
    await publish(alice, ports("8080:80"), ports("2000-2099:2000"));
    await publish(alice, ports("8080:81", "10.1.0.9"), ports("2000-2199:2000", "10.1.0.9"));
    expect(listed("ports4")).toBe("tcp . 8080 : 10.1.0.9 . 81");
    expect(listed("port_ranges4")).toBe("tcp . 2000-2199 : 10.1.0.9");
    const before = host.run("nft -a list ruleset");
    await publish(alice, ports("8080:81", "10.1.0.9"), ports("2000-2199:2000", "10.1.0.9"));
    expect(host.run("nft -a list ruleset")).toBe(before);
  });

  it("takes over a port that leads to the same place, as its owner's address is another's by now", async () => {
    await publish(alice, ports("8080:80"));
    await publish(bob, ports("8080:80", "10.1.0.3")).catch(() => undefined);
    const heir = publisher("heir");
    await publish(heir, ports("8080:80"));
    await nftables.removeOwned(portRefs(ports("8080:80")), alice.owner);
    expect(listed("ports4")).toBe("tcp . 8080 : 10.1.0.2 . 80");
    expect(host.run("nft list map inet netctl ports4")).toContain("heir");
  });

  it("leaves to another attachment of the same container what that one has", async () => {
    await publish(alice, ports("8080:80"));
    const second = publisher("alice", "other");
    const wanted = [ports("8080:80", "10.2.0.2"), ports("8081:80", "10.2.0.2")];
    expect(await publish(second, ...wanted)).toEqual([wanted[0]]);
    expect(listed("ports4").split(", ").sort()).toEqual([
      "tcp . 8080 : 10.1.0.2 . 80",
      "tcp . 8081 : 10.2.0.2 . 80",
    ]);
    await expect(publish(publisher("alic"), ports("8080:80", "10.1.0.3"))).rejects.toThrow(PortTakenError);
  });

  it("names the comment of an element that another hand has put there", async () => {
    await nftables.load("inet");
    host.run("nft add element inet netctl ports4 '{ tcp . 8080 comment \"mine\" : 10.1.0.9 . 80 }'");
    await expect(publish(alice, ports("8080:80"))).rejects.toThrow(
      'port is already allocated to an nftables element with the comment "mine"',
    );
  });

  it("gives a port to one of many who want it at once", async () => {
    const others = Array.from({ length: 8 }, () => new Nftables({ namespacePath: host.path }));
    const claims = ["8080:80", "192.0.2.1:8080:80", "8000-8100:8000", "192.0.2.1:8000-8100:8000"];
    const outcomes = await Promise.allSettled(
      others.map((each, index) =>
        publishPorts(
          each,
          [ports(claims[index % claims.length] ?? "", `10.1.0.${index + 2}`)],
          publisher(`c${index}`),
        ),
      ),
    );
    for (const each of others) each.close();
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    const reasons = outcomes.flatMap((outcome) =>
      outcome.status === "rejected" ? [outcome.reason as unknown] : [],
    );
    for (const reason of reasons) expect(reason).toBeInstanceOf(PortTakenError);
  });
});
