import { afterEach, beforeEach, expect, test } from "vitest";
import { dhcp } from "#plugins/dhcp/main.ts";
import { DhcpServer } from "#testing/dhcp-server.ts";
import { LanRig } from "#testing/lan-rig.ts";
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
