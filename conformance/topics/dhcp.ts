import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { ipamConfig } from "#conformance/configs.ts";
import { expect } from "#conformance/failure.ts";
import type { Container, Lab } from "#conformance/lab.ts";

const dhcpReadme = "dhcp README";

/** A container with an interface on a link whose other end is the host's. */
async function linked(lab: Lab): Promise<Container> {
  const container = await lab.container();
  await lab.host.ip(`link add up0 type veth peer name eth0 netns ${container.namespace.name}`);
  await lab.host.ipBatch(["link set up0 up", "address add 10.79.0.1/24 dev up0"]);
  return container;
}

function dhcpConfig(extra: JsonObject = {}, fields: JsonObject = {}): JsonObject {
  return ipamConfig({ type: "dhcp", ...extra }, { cniVersion: "1.1.0", ...fields });
}

const plugin = { plugin: "dhcp" };

export const dhcpCases: readonly Case[] = [
  {
    title: "without a server ADD fails in the time that it was given, and says that nobody has answered",
    source: `${dhcpReadme}; plugins#767`,
    reference: 'needs a daemon of its own, and says "no more tries"',
    async run(lab) {
      const container = await linked(lab);
      const reply = await lab.call("ADD", dhcpConfig({ timeoutSeconds: 1 }), { container, ...plugin });
      reply.expectError({ code: 11, names: [/eth0/, /no server answered/] });
    },
  },
  {
    title: "DHCPv6 without a server: ADD fails in its time, and names protocol and interface",
    source: `${dhcpReadme}; plugins#371`,
    reference: "has no DHCPv6",
    async run(lab) {
      const container = await linked(lab);
      const config = dhcpConfig({ timeoutSeconds: 1, families: ["ipv6"] });
      const reply = await lab.call("ADD", config, { container, ...plugin });
      reply.expectError({ code: 11, names: [/DHCPv6/, /eth0/] });
    },
  },
  {
    title: "fields of DHCPv6 are refused with field and value, and where they would mean nothing",
    source: dhcpReadme,
    reference: "has no DHCPv6",
    async run(lab) {
      const container = await linked(lab);
      const broken: readonly (readonly [JsonObject, RegExp])[] = [
        [{ families: ["ipv5"] }, /ipv5/],
        [{ ipv6: { addresses: 2 } }, /families/],
        [{ families: ["ipv6"], ipv6: { addresses: 0 } }, /addresses 0/],
        [{ families: ["ipv6"], ipv6: { gateway: "10.0.0.1" } }, /gateway/],
        [{ families: ["ipv6"], ipv6: { request: [{ option: "nonsense" }] } }, /nonsense/],
      ];
      for (const [extra, names] of broken) {
        const reply = await lab.call("ADD", dhcpConfig(extra), { container, ...plugin });
        reply.expectError({ code: 7, names });
      }
    },
  },
  {
    title: "an interface that is not there is named",
    source: dhcpReadme,
    reference: "needs a daemon of its own",
    async run(lab) {
      const container = await lab.container();
      const reply = await lab.call("ADD", dhcpConfig(), { container, ...plugin });
      reply.expectError({ code: 4, names: /eth0/ });
    },
  },
  {
    title: "options that there are not are refused",
    source: dhcpReadme,
    reference: "needs a daemon of its own",
    async run(lab) {
      const container = await linked(lab);
      const broken: readonly JsonObject[] = [
        { provide: [{ option: "nonsense", value: "x" }] },
        { request: [{ option: "nonsense" }] },
      ];
      for (const extra of broken) {
        const reply = await lab.call("ADD", dhcpConfig(extra), { container, ...plugin });
        reply.expectError({ code: 7, names: /nonsense/ });
      }
    },
  },
  {
    title: "DEL succeeds any number of times, with and without netns, and whoever serves",
    source: "SPEC 1.1.0, DEL; plugins#235",
    reference: "fails without its daemon",
    async run(lab) {
      const container = await linked(lab);
      for (const netns of [container.namespace.path, "", "/run/netns/never-was"])
        (await lab.call("DEL", dhcpConfig(), { container, netns, ...plugin })).expectSilence();
    },
  },
  {
    title: "CHECK without a lease is an error",
    source: "SPEC 1.1.0, CHECK",
    async run(lab) {
      const container = await linked(lab);
      const prevResult = { cniVersion: "1.1.0", ips: [{ address: "10.79.0.5/24" }] };
      const reply = await lab.call("CHECK", dhcpConfig({}, { prevResult }), { container, ...plugin });
      reply.expectError({});
    },
  },
  {
    title: "GC and STATUS are silent",
    source: "SPEC 1.1.0, GC and STATUS",
    reference: "v1.1.1 ends at specification 1.0.0",
    async run(lab) {
      const config = dhcpConfig({}, { "cni.dev/valid-attachments": [] });
      (await lab.call("GC", config, plugin)).expectSilence();
      (await lab.call("STATUS", config, plugin)).expectSilence();
    },
  },
  {
    title: "STATUS says where nobody would extend leases",
    source: `${dhcpReadme}, STATUS`,
    reference: "has no STATUS",
    async run(lab) {
      const environment = {
        NETCTL_STANDALONE: "1",
        NETCTL_NETD: "never",
        NETCTL_RUN_DIR: `${lab.runDir}/other`,
      };
      const reply = await lab.call("STATUS", dhcpConfig(), { ...plugin, environment });
      if (reply.succeeded) expect(false, "STATUS succeeded without netd");
      reply.expectError({ code: 50, names: /netd/ });
    },
  },
];
