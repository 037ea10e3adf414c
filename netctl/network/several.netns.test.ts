import { once } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { neighbourOf } from "#testing/neighbour.ts";
import { type BuiltSuite, buildSuite, SuiteLab } from "#testing/suite-lab.ts";
import type { TestNamespace } from "#testing/test-namespace.ts";
import { ask, askOnce, startServer } from "#testing/traffic.ts";

let suite: BuiltSuite;
let lab: SuiteLab;
let lan: TestNamespace;
let stops: (() => void)[];
beforeAll(async () => {
  suite = await buildSuite();
});
afterAll(() => suite.remove());
beforeEach(() => {
  lab = new SuiteLab(suite, "several");
  lan = neighbourOf(lab.host, "several-lan");
  stops = [];
  lab.host.run("ip route add default via 192.0.2.2; ip -6 route add default via 2001:db8::2");
});
afterEach(() => {
  for (const stop of stops) stop();
  lab.remove();
  lan.remove();
});

const inside = (name: string) => lab.namespace(lab.path("run/netns", name));
const serve = async (name: string, ports: readonly number[]) => {
  stops.push(await startServer(inside(name), name, ports));
};
const gateways = async (name: string) => {
  const show = async (flag: string) =>
    (await lab.ok("sandbox", "exec", name, "--", "ip", flag, "route", "show", "default"))
      .trim()
      .split("\n")
      .map((line) => /dev (\S+)/.exec(line)?.[1] ?? "");
  return { ipv4: await show("-4"), ipv6: await show("-6") };
};
/** One network of each family pair; `front` and `back` are 10.1 and 10.2. */
async function makeNetworks(): Promise<void> {
  const create = (name: string, net: number, ...flags: string[]) =>
    lab.ok("network", "create", name, "--subnet", `10.${net}.0.0/24`, "--subnet", `fd0${net}::/64`, ...flags);
  await create("front", 1);
  await create("back", 2);
  await create("inner", 3, "--internal");
}

describe("a sandbox with several networks", () => {
  it("has the default gateway of the highest priority, never an internal one's, else of the first name", async () => {
    await makeNetworks();
    await lab.ok(
      "sandbox",
      "create",
      "a",
      "--network",
      "inner:gw-priority=9",
      "--network",
      "front",
      "--network",
      "back",
    );
    expect(await gateways("a")).toEqual({ ipv4: ["eth2"], ipv6: ["eth2"] });
    await lab.ok("sandbox", "create", "b", "--network", "back", "--network", "front:gw-priority=1");
    expect(await gateways("b")).toEqual({ ipv4: ["eth1"], ipv6: ["eth1"] });
    await lab.ok("network", "create", "only4", "--subnet", "10.4.0.0/24");
    await lab.ok("sandbox", "create", "c", "--network", "front", "--network", "only4:gw-priority=1");
    expect(await gateways("c")).toEqual({ ipv4: ["eth1"], ipv6: ["eth0"] });
    await lab.ok("sandbox", "create", "d", "--network", "inner");
    expect(await gateways("d")).toEqual({ ipv4: [""], ipv6: [""] });
  });

  it("answers by the interface that it was asked by, whichever has the default gateway", async () => {
    for (const net of [1, 2]) {
      const open = ["-o", "gateway_mode_ipv4=nat-unprotected", "-o", "gateway_mode_ipv6=nat-unprotected"];
      const subnets = ["--subnet", `10.${net}.0.0/24`, "--subnet", `fd0${net}::/64`];
      await lab.ok("network", "create", `net${net}`, ...subnets, ...open);
    }
    await lab.ok("sandbox", "create", "a", "--network", "net2", "--network", "net1");
    await serve("a", [80]);
    // The neighbour reaches both addresses through the host, which takes no answer of the wrong network.
    lan.run("ip route add 10.0.0.0/8 via 192.0.2.1; ip -6 route add fd00::/8 via 2001:db8::1");
    lab.host.run("sysctl -qw net.ipv4.conf.all.rp_filter=1");
    const { ipv4 } = await gateways("a");
    expect(ipv4).toEqual(["eth1"]);
    const questions = ["10.1.0.2", "10.2.0.2", "fd01::2", "fd02::2"].flatMap((to) => [
      { protocol: "tcp", to, port: 80 } as const,
      ...(to === "10.2.0.2" || to === "fd02::2" ? [] : [{ protocol: "udp", to, port: 80 } as const]),
    ]);
    expect(await ask(lan, questions)).toEqual(
      questions.map(({ to }) => `a sees ${to.includes(":") ? "2001:db8::2" : "192.0.2.2"}`),
    );
    for (const { to } of questions) {
      const route = inside("a").run(
        `ip route get ${to.includes(":") ? "2001:db8::2" : "192.0.2.2"} from ${to}`,
      );
      expect(route).toContain(/^(10\.1|fd01)/.test(to) ? "dev eth1" : "dev eth0");
    }
    // What has no source yet goes by the default gateway, and to a neighbour in either network directly.
    expect(inside("a").run("ip route get 192.0.2.2")).toMatch(/via 10\.1\.0\.1 dev eth1/);
    expect(inside("a").run("ip route get 10.2.0.99")).toMatch(/^10\.2\.0\.99 dev eth0/);
  });

  it("serves a published port also to a container that it shares another network with", async () => {
    await makeNetworks();
    await lab.ok("sandbox", "create", "a", "--network", "back", "--network", "front", "-p", "8080:80");
    await lab.ok("sandbox", "create", "b", "--network", "front");
    await serve("a", [80]);
    const answers = await ask(inside("b"), [
      { protocol: "tcp", to: "192.0.2.1", port: 8080 },
      { protocol: "tcp", to: "2001:db8::1", port: 8080 },
    ]);
    expect(answers.map((answer) => answer.replace(/ sees.*/, ""))).toEqual(["a", "a"]);
    expect(await askOnce(lan, { protocol: "tcp", to: "192.0.2.1", port: 8080 })).toBe("a sees 192.0.2.2");
  });
});

describe("netctl network connect and disconnect", () => {
  it("move the default gateway and the published ports of a running sandbox", async () => {
    await makeNetworks();
    await lab.ok("sandbox", "create", "a", "--network", "front", "-p", "8080:80", "-p", "5353:53/udp");
    await serve("a", [80, 53]);
    const everywhere = () =>
      ask(lan, [
        { protocol: "tcp", to: "192.0.2.1", port: 8080 },
        { protocol: "tcp", to: "2001:db8::1", port: 8080 },
        { protocol: "udp", to: "192.0.2.1", port: 5353 },
        { protocol: "udp", to: "2001:db8::1", port: 5353 },
      ]);
    const served = ["a sees 192.0.2.2", "a sees 2001:db8::2", "a sees 192.0.2.2", "a sees 2001:db8::2"];
    const through = async () => {
      const ports = JSON.parse(await lab.ok("port", "a", "--json")) as { containerIp: string }[];
      return [...new Set(ports.map(({ containerIp }) => containerIp))].sort();
    };
    expect(await everywhere()).toEqual(served);
    expect(await through()).toEqual(["10.1.0.2", "fd01::2"]);

    await lab.ok("network", "connect", "back", "a");
    expect(await gateways("a")).toEqual({ ipv4: ["eth1"], ipv6: ["eth1"] });
    expect(await through()).toEqual(["10.2.0.2", "fd02::2"]);
    expect(await everywhere()).toEqual(served);
    expect(await lab.ok("sandbox", "exec", "a", "--", "cat", "/etc/hosts")).toMatch(
      /10\.1\.0\.2\ta\n[^]*10\.2\.0\.2\ta/,
    );

    await lab.ok("network", "connect", "--gw-priority", "-1", "inner", "a");
    expect(await gateways("a")).toEqual({ ipv4: ["eth1"], ipv6: ["eth1"] });

    await lab.ok("network", "disconnect", "back", "a");
    expect(await gateways("a")).toEqual({ ipv4: ["eth0"], ipv6: ["eth0"] });
    expect(await everywhere()).toEqual(served);

    await lab.ok("network", "disconnect", "inner", "a");
    expect(inside("a").run("ip rule; ip -6 rule")).not.toContain("proto 110");
    expect(inside("a").run("ip route show table all; ip -6 route show table all")).not.toMatch(/table 52/);
    await lab.ok("network", "disconnect", "front", "a");
    expect(await lab.ok("port", "a")).toBe("");
    const warned = await lab.netctl("network", "connect", "inner", "a");
    expect(warned.stderr).toMatch(/^netctl: warning: not published: 8080:80\/tcp, 5353:53\/udp/);
    await lab.ok("network", "connect", "--ip", "10.2.0.77", "back", "a");
    expect(await through()).toEqual(["10.2.0.77", "fd02::3"]);
    expect(await everywhere()).toEqual(served);
    expect(await lab.ok("sandbox", "rm", "-f", "a")).toBe("a\n");
    await lab.ok("network", "rm", "front", "back", "inner");
  });

  it("give each family's ports to the network that has its gateway", async () => {
    await makeNetworks();
    await lab.ok("network", "create", "only4", "--subnet", "10.4.0.0/24");
    await lab.ok("sandbox", "create", "a", "--network", "front", "-p", "8080:80");
    await lab.ok("network", "connect", "--gw-priority", "1", "only4", "a");
    await serve("a", [80]);
    expect(await lab.ok("port", "a")).toBe("80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n");
    const ports = JSON.parse(await lab.ok("port", "a", "--json")) as { containerIp: string }[];
    expect(ports.map(({ containerIp }) => containerIp)).toEqual(["10.4.0.2", "fd01::2"]);
    expect(
      await ask(lan, [
        { protocol: "tcp", to: "192.0.2.1", port: 8080 },
        { protocol: "tcp", to: "2001:db8::1", port: 8080 },
      ]),
    ).toEqual(["a sees 192.0.2.2", "a sees 2001:db8::2"]);
  });

  it("leave the sandbox as it was where the network refuses it", async () => {
    await makeNetworks();
    await lab.ok("sandbox", "create", "a", "--network", "front", "-p", "8080:80");
    await lab.ok("sandbox", "create", "b", "--network", "back:ip=10.2.0.9");
    const before = inside("a").run("ip route show table all; ip rule; ip -j link | grep -o 'eth.'");
    const refused = await lab.netctl("network", "connect", "--ip", "10.2.0.9", "back", "a");
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toMatch(/10\.2\.0\.9/);
    expect(inside("a").run("ip route show table all; ip rule; ip -j link | grep -o 'eth.'")).toBe(before);
    expect(await lab.ok("port", "a", "80")).toBe("0.0.0.0:8080\n[::]:8080\n");
    expect(JSON.parse(await lab.ok("sandbox", "ls", "--json"))).toMatchObject([{ state: "ready" }, {}]);
  });

  it("refuse what can't be, in Docker's words", async () => {
    await makeNetworks();
    await lab.ok("sandbox", "create", "a", "--network", "front");
    const cases: readonly (readonly [words: readonly string[], message: string])[] = [
      [["connect", "front", "a"], "endpoint with name a already exists in network front"],
      [["connect", "gone", "a"], "network gone not found"],
      [["connect", "back", "nobody"], "sandbox nobody not found"],
      [["disconnect", "back", "a"], "container a is not connected to network back"],
      [["disconnect", "back", "nobody"], "container nobody is not connected to network back"],
      [["connect", "host", "a"], "container cannot be connected to host network"],
    ];
    for (const [words, message] of cases) {
      const { exitCode, stderr } = await lab.netctl("network", ...words);
      expect({ exitCode, stderr }).toEqual({
        exitCode: 1,
        stderr: expect.stringContaining(message) as string,
      });
    }
  });

  it("can be mended after a kill at any moment", async () => {
    await makeNetworks();
    await lab.ok("sandbox", "create", "a", "--network", "front", "-p", "8080:80");
    await serve("a", [80]);
    for (const words of [
      ["network", "connect", "back", "a"],
      ["network", "disconnect", "back", "a"],
    ]) {
      for (const afterMs of [60, 100, 140, 180, 220, 260]) {
        const child = lab.start(...words);
        const timer = setTimeout(() => child.kill("SIGKILL"), afterMs);
        await once(child, "exit");
        clearTimeout(timer);
        expect(await lab.ok("sandbox", "repair", "a")).toBe("a\n");
        const [{ state, attachments }] = JSON.parse(await lab.ok("sandbox", "ls", "--json")) as [
          { readonly state: string; readonly attachments: readonly { readonly network: string }[] },
        ];
        expect(state).toBe("ready");
        const networks = attachments.map(({ network }) => network);
        expect((await gateways("a")).ipv4).toEqual([networks.includes("back") ? "eth1" : "eth0"]);
        expect(await askOnce(lan, { protocol: "tcp", to: "192.0.2.1", port: 8080 })).toBe("a sees 192.0.2.2");
      }
    }
    await lab.ok("sandbox", "rm", "-f", "a");
    await lab.ok("network", "rm", "front", "back", "inner");
    expect(lab.host.run("nft list table inet netctl")).not.toMatch(/8080/);
  });
});
