import { afterEach, beforeEach, expect, it } from "vitest";
import type { JsonObject } from "#cni/json.ts";
import { PortRig } from "#testing/port-rig.ts";
import { ask, type Question } from "#testing/traffic.ts";

/** What is left of a container's published ports, by packets, once it is gone and another has its addresses. */
const mappings = ["tcp", "udp"].map((protocol) => ({ hostPort: 8080, containerPort: 80, protocol }));
const closed: JsonObject = {
  gatewayMode: { ipv4: "nat", ipv6: "nat" },
  networkIsolation: true,
};

let rig: PortRig;
beforeEach(() => {
  rig = new PortRig();
});
afterEach(() => rig.close());

const hostAddresses = ["192.0.2.1", "2001:db8::1"];
/** Datagrams leave from one port, again and again, as those of a program that goes on. */
const questions = (addresses: readonly string[], port: number): readonly Question[] =>
  addresses.flatMap((to, index): readonly Question[] => [
    { protocol: "tcp", to, port },
    { protocol: "udp", to, port, fromPort: 5555 + index },
  ]);
const answeredBy = async (name: string, asked: readonly Question[]) =>
  (await ask(rig.lan, asked)).map((answer) => answer.startsWith(`${name} sees`));

it("leads nobody to the container that has the addresses by now, nor keeps it from publishing", async () => {
  const before = await rig.attach({ mappings, bridgeFields: closed });
  await rig.serve(before.container, "before", [80]);
  const published = questions(hostAddresses, 8080);
  expect(await answeredBy("before", published)).toEqual([true, true, true, true]);

  await rig.forget(before.containerId);
  await rig.detach(before.containerId);
  const ips = [before.ip4, before.ip6];
  const after = await rig.attachOnly({
    bridgeFields: { ...closed, capabilities: { ips: true }, runtimeConfig: { ips } },
  });
  expect([after.ip4, after.ip6]).toEqual(ips);
  await rig.serve(after.container, "after", [80]);
  expect(await answeredBy("after", published)).toEqual([false, false, false, false]);
  // By its own address, along a crafted route, no more than anybody's.
  rig.lan.run("ip route add 10.1.0.0/24 via 192.0.2.1; ip route add fd00:1::/64 via 2001:db8::1");
  expect(await answeredBy("after", questions(ips, 80))).toEqual([false, false, false, false]);

  const answer = await rig.portmap("ADD", after, { mappings });
  expect(answer.json, answer.stderr).not.toHaveProperty("code");
  expect(await answeredBy("after", published)).toEqual([true, true, true, true]);
});
