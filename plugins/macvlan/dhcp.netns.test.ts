import { afterEach, beforeEach, expect, test } from "vitest";
import { waitUntil } from "#kernel/wait.ts";
import { dhcp } from "#plugins/dhcp/main.ts";
import { DhcpServer } from "#testing/dhcp-server.ts";
import { LanRig } from "#testing/lan-rig.ts";
import { patience } from "#testing/patience.ts";
import { WireCapture } from "#testing/wire-capture.ts";
import { macvlan } from "./main.ts";

let rig: LanRig;
let server: DhcpServer;
beforeEach(async () => {
  rig = new LanRig(macvlan, { plugins: { dhcp } });
  // Who keeps leases is no part of this.
  rig.replace({ names: { ...rig.host.names, probe: async () => {} } });
  server = await DhcpServer.start(rig.lan, "lan0", [
    "--dhcp-range=10.1.0.50,10.1.0.60,255.255.255.0,2m",
    "--dhcp-option=15,example.org",
  ]);
});
afterEach(async () => {
  await server.stop();
  await rig.close();
});

/** How often the wire was asked for another owner of an address: by who has none yet (RFC 4862 section 5.4.2). */
async function timesLookedFor(address: string, wire: WireCapture): Promise<number> {
  const captured = await wire.stop();
  const asked = captured.matching("icmp6 and src ::").filter((line) => line.includes(`who has ${address},`));
  captured.remove();
  return asked.length;
}

test("the wire's DHCP server gives address, router and domain, and hears goodbye when the container goes", async () => {
  const { container, containerId, config, result } = await rig.attach({
    master: "up0",
    ipam: { type: "dhcp" },
  });
  const address = result.ips[0]?.address ?? "";
  expect(address).toMatch(/^10\.1\.0\.(5\d|60)\/24$/);
  expect(rig.addresses("eth0", container)).toEqual([address]);
  expect(container.run("ip route show default")).toContain("via 10.1.0.1");
  expect(result.dns).toMatchObject({ domain: "example.org" });
  expect(rig.reaches(container, "10.1.0.1")).toBe(true);
  expect((await rig.check({ container, containerId, config, result })).json).toEqual({});
  await rig.detach({ containerId, config });
  await server.saw(new RegExp(`DHCPRELEASE\\(lan0\\) ${address.split("/")[0]}`));
  expect(rig.links(container)).toEqual(["lo"]);
  expect(rig.files()).toEqual([]);
});

test("both families: the default route of IPv6 comes from the wire's router, which is asked for nothing", async () => {
  await server.stop();
  server = await DhcpServer.start(rig.lan, "lan0", [
    "--dhcp-range=10.1.0.50,10.1.0.60,255.255.255.0,2m",
    "--dhcp-range=fd00:1::50,fd00:1::5f,64,2m",
    "--enable-ra",
    "--dhcp-option=option6:dns-server,[fd00:1::53]",
  ]);
  const wire = await WireCapture.start(rig.lan, "lan0");
  const ipam = { type: "dhcp", families: ["ipv4", "ipv6"] };
  const { container, containerId, config, result } = await rig.attach({ master: "up0", ipam });
  const [, address = ""] = result.ips.map((ip) => ip.address);
  expect(address).toMatch(/^fd00:1::5[0-9a-f]\/128$/);
  expect(await timesLookedFor(address.replace("/128", ""), wire), "once by dhcp, once by macvlan").toBe(2);
  expect(rig.addresses("eth0", container)).toContain(address);
  expect(result.dns).toMatchObject({ nameservers: ["fd00:1::53"] });
  await waitUntil(
    "the router's advertisement",
    () => container.run("ip -6 route show default").includes("via fe80::") || undefined,
    { timeoutMs: 20_000 * patience },
  );
  expect(rig.reaches(container, "fd00:1::1")).toBe(true);
  expect((await rig.check({ container, containerId, config, result })).json).toEqual({});
  await rig.detach({ containerId, config });
  await server.saw(new RegExp(`DHCPRELEASE\\(lan0\\)`));
  expect(rig.files()).toEqual([]);
});

test("without router advertisements the configuration names prefix and gateway", async () => {
  await server.stop();
  server = await DhcpServer.start(rig.lan, "lan0", ["--dhcp-range=fd00:1::50,fd00:1::5f,64,2m"]);
  const ipv6 = { prefixLength: 64, gateway: "fd00:1::1" };
  const wire = await WireCapture.start(rig.lan, "lan0");
  const { container, result } = await rig.attach({
    master: "up0",
    enabledad: false,
    ipam: { type: "dhcp", families: ["ipv6"], ipv6 },
  });
  expect(result.ips).toMatchObject([{ gateway: "fd00:1::1" }]);
  const address = result.ips[0]?.address.replace("/64", "") ?? "";
  expect(await timesLookedFor(address, wire), "by dhcp, not by macvlan").toBe(1);
  expect(container.run("ip -6 route show default")).toContain("via fd00:1::1");
  expect(rig.reaches(container, "fd00:1::1")).toBe(true);
});
