import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { neighbourOf } from "#testing/neighbour.ts";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { ask, startServer } from "#testing/traffic.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
/** A neighbour of the host on its LAN, who knows the way to every container. */
let lan: TestNamespace;
let stops: (() => void)[];
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(async () => {
  lab = new SuiteLab(suite, "promises");
  lan = neighbourOf(lab.host, "promises-lan");
  stops = [];
  lab.host.run("ip addr add 192.0.2.77/24 dev up0");
  lab.host.run("ip addr add 2001:db8::77/64 dev up0 nodad preferred_lft 0");
  lan.run("ip route add 10.0.0.0/8 via 192.0.2.1; ip -6 route add fd00::/8 via 2001:db8::1");
  await serve(lan, "lan", [80]);
});
afterEach(() => {
  for (const stop of stops) stop();
  lab.remove();
  lan.remove();
});

async function serve(namespace: TestNamespace, name: string, ports: readonly number[]): Promise<void> {
  stops.push(await startServer(namespace, name, ports));
}

const inside = (name: string) => lab.namespace(lab.path("run/netns", name));

/** A network `10.NET.0.0/24` and `fdNET::/64` with a container of the same name that serves port 80 on .2 and ::2. */
async function make(name: string, net: number, flags: readonly string[] = [], more: readonly string[] = []) {
  const subnets = ["--subnet", `10.${net}.0.0/24`, "--subnet", `fd0${net}::/64`];
  await lab.ok("network", "create", name, ...subnets, ...flags);
  await lab.ok("sandbox", "create", name, "--network", name, ...more);
  await serve(inside(name), name, [80, 81]);
}

const options = (...texts: readonly string[]) => texts.flatMap((text) => ["-o", text]);

/** The answer to a connection over IPv4, and over IPv6. Errors and silence are both "no". */
async function reach(from: TestNamespace, ipv4: string, ipv6: string, port = 80): Promise<readonly string[]> {
  const answers = await ask(from, [
    { protocol: "tcp", to: ipv4, port },
    { protocol: "tcp", to: ipv6, port },
  ]);
  return answers.map((answer) => (answer.includes(" sees ") ? answer : "no"));
}
const both = (name: string, ipv4: string, ipv6: string) => [`${name} sees ${ipv4}`, `${name} sees ${ipv6}`];
const nobody = ["no", "no"];

describe("a network that netctl creates", () => {
  it("leads out under the host's address, and in by published ports alone", async () => {
    await make("one", 1, [], ["-p", "8080:80"]);
    await make("two", 2);
    expect(await reach(inside("one"), "192.0.2.2", "2001:db8::2")).toEqual(
      both("lan", "192.0.2.1", "2001:db8::1"),
    );
    expect(await reach(lan, "192.0.2.1", "2001:db8::1", 8080)).toEqual(
      both("one", "192.0.2.2", "2001:db8::2"),
    );
    // By its own address, published port or not: neither from outside nor from another network.
    for (const port of [80, 81]) {
      expect(await reach(lan, "10.1.0.2", "fd01::2", port)).toEqual(nobody);
      expect(await reach(inside("two"), "10.1.0.2", "fd01::2", port)).toEqual(nobody);
    }
    // The host itself may, and another network by the host's address.
    expect(await reach(lab.host, "10.1.0.2", "fd01::2")).toEqual(both("one", "10.1.0.1", "fd01::1"));
    const crossed = await reach(inside("two"), "192.0.2.1", "2001:db8::1", 8080);
    expect(crossed.map((answer) => answer.split(" ")[0])).toEqual(["one", "one"]);
  });

  it("leads nowhere with --internal, and not to another network's published port either", async () => {
    await make("open", 1, [], ["-p", "8080:80"]);
    await make("inner", 2, ["--internal"]);
    await lab.ok("sandbox", "create", "peer", "--network", "inner");
    expect(await reach(inside("inner"), "192.0.2.2", "2001:db8::2")).toEqual(nobody);
    expect(await reach(inside("inner"), "10.2.0.1", "fd02::1", 8080)).toEqual(nobody);
    inside("inner").run("ip route add default via 10.2.0.1; ip -6 route add default via fd02::1");
    expect(await reach(inside("inner"), "192.0.2.2", "2001:db8::2")).toEqual(nobody);
    expect(await reach(inside("inner"), "192.0.2.1", "2001:db8::1", 8080)).toEqual(nobody);
    expect(await reach(lan, "10.2.0.2", "fd02::2")).toEqual(nobody);
    expect(await reach(inside("peer"), "10.2.0.2", "fd02::2")).toEqual(both("inner", "10.2.0.3", "fd02::3"));
  });

  it("keeps its containers apart with icc=false", async () => {
    await make("apart", 1, options("icc=false"), ["-p", "8080:80"]);
    await lab.ok("sandbox", "create", "peer", "--network", "apart");
    expect(await reach(inside("peer"), "10.1.0.2", "fd01::2")).toEqual(nobody);
    expect(await reach(inside("peer"), "192.0.2.2", "2001:db8::2")).toEqual(
      both("lan", "192.0.2.1", "2001:db8::1"),
    );
  });

  it("leaves under a fixed address, or under the containers' own", async () => {
    const fixed = ["host_ipv4=192.0.2.77", "host_ipv6=2001:db8::77"];
    await make("fixed", 1, options(...fixed.map((text) => `com.docker.network.${text}`)));
    expect(await reach(inside("fixed"), "192.0.2.2", "2001:db8::2")).toEqual(
      both("lan", "192.0.2.77", "2001:db8::77"),
    );
    await make("plain", 2, options("masquerade=false"));
    expect(await reach(inside("plain"), "192.0.2.2", "2001:db8::2")).toEqual(
      both("lan", "10.2.0.2", "fd02::2"),
    );
  });

  it("is reached directly as its gateway mode says", async () => {
    const modes = (mode: string) => options(`gateway_mode_ipv4=${mode}`, `gateway_mode_ipv6=${mode}`);
    await make("routed", 1, modes("routed"), ["-p", "8080:80"]);
    expect(await reach(lan, "10.1.0.2", "fd01::2", 80)).toEqual(both("routed", "192.0.2.2", "2001:db8::2"));
    expect(await reach(lan, "10.1.0.2", "fd01::2", 81)).toEqual(nobody);
    expect(await reach(inside("routed"), "192.0.2.2", "2001:db8::2")).toEqual(
      both("lan", "10.1.0.2", "fd01::2"),
    );
    await make("bare", 2, modes("nat-unprotected"));
    expect(await reach(lan, "10.2.0.2", "fd02::2", 81)).toEqual(both("bare", "192.0.2.2", "2001:db8::2"));
    await make("trusting", 3, options("com.docker.network.bridge.trusted_host_interfaces=up0"));
    expect(await reach(lan, "10.3.0.2", "fd03::2", 81)).toEqual(both("trusting", "192.0.2.2", "2001:db8::2"));
    await make("alone", 4, ["--internal", ...modes("isolated")]);
    expect(await reach(lab.host, "10.4.0.2", "fd04::2")).toEqual(nobody);
  });
});
