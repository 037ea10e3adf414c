import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, hostLocal } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { show } from "#conformance/printed-result.ts";
import { ping } from "#conformance/traffic.ts";
import { type Link, readAddresses, readLink, readLinks, readPortVlans } from "#conformance/witness.ts";

/** The link behind the host side that the result names. */
async function hostPort(attachment: Attachment): Promise<Link> {
  const { name } = attachment.hostSide();
  const link = await readLink(attachment.lab.host, name);
  expect(link !== undefined, `the result names ${name}, which the host does not have`);
  return link;
}

async function inside(attachment: Attachment): Promise<Link> {
  const link = await readLink(attachment.container.namespace, attachment.ifName);
  expect(link !== undefined, `no ${attachment.ifName} in the container`);
  return link;
}

const macs = { args: "02:00:00:00:00:0a", cni: "02:00:00:00:00:0b", runtime: "02:00:00:00:00:0c" };

export const interfaceCases: readonly Case[] = [
  {
    title: "ADD makes the bridge and a veth pair from it into the container, all up",
    source: "bridge README",
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab), await lab.container());
      const bridge = await readLink(lab.host, "br0");
      expectEqual(bridge?.kind, "bridge", "kind of br0");
      const port = await hostPort(attachment);
      const end = await inside(attachment);
      expectEqual([port.kind, end.kind], ["veth", "veth"], "kinds of the two ends");
      expectEqual(port.master, "br0", "master of the host side");
      expectEqual([port.peerIndex, end.peerIndex], [end.index, port.index], "peers of the two ends");
      for (const link of [bridge, port, end])
        expect(link?.flags.includes("UP") === true, `${link?.name} is down`);
    },
  },
  {
    title: "the result lists bridge, host side and container side with the kernel's MAC addresses",
    source: "SPEC 1.1.0, ADD: interfaces; bridge plugin",
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab), await lab.container());
      const port = await hostPort(attachment);
      const end = await inside(attachment);
      const bridge = await readLink(lab.host, "br0");
      expectEqual(
        attachment.result.interfaces.map(({ name, mac, sandbox }) => ({ name, mac, sandbox })),
        [
          { name: "br0", mac: bridge?.mac, sandbox: "" },
          { name: port.name, mac: port.mac, sandbox: "" },
          { name: "eth0", mac: end.mac, sandbox: attachment.container.namespace.path },
        ],
        "interfaces of the result",
      );
      expectEqual(attachment.address().interface, 2, "interface index of the address");
    },
  },
  {
    title: "the bridge is cni0 where the config names none",
    source: "bridge README, bridge",
    async run(lab) {
      await lab.attach(bridgeConfig(lab, { bridge: undefined }), await lab.container());
      expectEqual((await readLink(lab.host, "cni0"))?.kind, "bridge", "kind of cni0");
    },
  },
  {
    title: "a bridge that exists is taken as it is: addresses, ports and MAC stay",
    source: "bridge README, bridge",
    async run(lab) {
      await lab.host.ipBatch([
        "link add br0 type bridge",
        "link set br0 address 02:00:00:00:00:77 up",
        "address add 192.0.2.1/24 dev br0",
        "link add other0 type veth peer name other1",
        "link set other0 master br0",
      ]);
      await lab.attach(bridgeConfig(lab), await lab.container());
      expectEqual((await readLink(lab.host, "br0"))?.mac, "02:00:00:00:00:77", "MAC of br0");
      expectEqual(
        (await readAddresses(lab.host, "br0")).map((address) => address.cidr),
        ["192.0.2.1/24"],
        "addresses of br0",
      );
      expectEqual((await readLink(lab.host, "other0"))?.master, "br0", "master of a port that was there");
    },
  },
  {
    title: "a bridge that exists but is down is set up",
    source: "bridge plugin",
    async run(lab) {
      await lab.host.ip("link add br0 type bridge");
      await lab.attach(bridgeConfig(lab), await lab.container());
      expect((await readLink(lab.host, "br0"))?.flags.includes("UP") === true, "br0 is down");
    },
  },
  {
    title: "a bridge name that is another kind of link is refused and named",
    source: "bridge plugin: already exists but is not a bridge",
    async run(lab) {
      await lab.host.ip("link add br0 type veth peer name br1");
      const container = await lab.container();
      const reply = await lab.call("ADD", bridgeConfig(lab), { container });
      reply.expectError({ names: [/br0/, /bridge/] });
      expectEqual((await readLink(lab.host, "br0"))?.kind, "veth", "kind of br0");
    },
  },
  {
    title: "an interface name that the container has already is refused, and that interface stays",
    source: "SPEC 1.1.0, ADD: must error if the interface exists",
    async run(lab) {
      const container = await lab.container();
      await container.namespace.ip("link add eth0 type veth peer name other0");
      const before = await readLink(container.namespace, "eth0");
      const reply = await lab.call("ADD", bridgeConfig(lab), { container });
      reply.expectError({ names: /eth0/ });
      expectEqual(
        (await readLink(container.namespace, "eth0"))?.index,
        before?.index,
        "index of the container's own eth0",
      );
    },
  },
  {
    title: "a second ADD of one attachment is refused, or answered as the first, which goes on working",
    source: "SPEC 1.1.0, ADD",
    async run(lab) {
      const container = await lab.container();
      const attachment = await lab.attach(bridgeConfig(lab, { isGateway: true }), container);
      // SPEC: a runtime should not do so. After a crash or a timeout it may not know that it did.
      const reply = await lab.call("ADD", attachment.config, { container });
      if (reply.succeeded) expectEqual(reply.expectJson(), attachment.result.json, "the second result");
      else reply.expectError();
      expect(
        await ping(container.namespace, "10.77.0.1"),
        "the container does not reach its gateway any more",
      );
      expectEqual(
        (await readAddresses(container.namespace, "eth0")).map((address) => address.cidr),
        [attachment.address().address],
        "addresses of eth0",
      );
    },
  },
  {
    title: "mtu is that of the bridge and of both ends",
    source: "bridge README, mtu",
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab, { mtu: 1400 }), await lab.container());
      expectEqual((await inside(attachment)).mtu, 1400, "MTU of eth0");
      expectEqual((await hostPort(attachment)).mtu, 1400, "MTU of the host side");
      expectEqual((await readLink(lab.host, "br0"))?.mtu, 1400, "MTU of br0");
    },
  },
  {
    title: "hairpinMode is set on the bridge port, and off without it",
    source: "bridge README, hairpinMode",
    async run(lab) {
      const plain = await lab.attach(bridgeConfig(lab), await lab.container());
      const hairpin = await lab.attach(bridgeConfig(lab, { hairpinMode: true }), await lab.container());
      expectEqual((await hostPort(plain)).port["hairpin"], false, "hairpin of a port without hairpinMode");
      expectEqual((await hostPort(hairpin)).port["hairpin"], true, "hairpin of a port with hairpinMode");
    },
  },
  {
    title: "promiscMode makes the bridge promiscuous",
    source: "bridge README, promiscMode",
    async run(lab) {
      await lab.attach(bridgeConfig(lab, { promiscMode: true }), await lab.container());
      expect((await readLink(lab.host, "br0"))?.flags.includes("PROMISC") === true, "br0 is not promiscuous");
    },
  },
  {
    title: "portIsolation keeps two containers apart and lets both reach the gateway",
    source: "bridge README, portIsolation",
    needs: ["bridge port isolation"],
    reference: "v1.1.1 is older than the field",
    async run(lab) {
      const config = bridgeConfig(lab, { isGateway: true, portIsolation: true });
      const one = await lab.attach(config, await lab.container());
      const two = await lab.attach(config, await lab.container());
      expectEqual((await hostPort(one)).port["isolated"], true, "isolated of the port");
      expect(!(await ping(one.container.namespace, two.ip(), 1)), "an isolated container reaches another");
      expect(
        await ping(one.container.namespace, "10.77.0.1"),
        "an isolated container does not reach its gateway",
      );
    },
  },
  {
    title: "disableContainerInterface leaves the container's side down",
    source: "bridge README, disableContainerInterface",
    reference: "v1.1.1 is older than the field",
    async run(lab) {
      const config = bridgeConfig(lab, { ipam: undefined, disableContainerInterface: true });
      const attachment = await lab.attach(config, await lab.container());
      expect(!(await inside(attachment)).flags.includes("UP"), "eth0 is up");
    },
  },
  {
    title: "without ipam the container gets a link and no address, and CHECK and DEL work",
    source: "bridge README: ipam is optional",
    reference: "CHECK calls the IPAM although there is none",
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab, { ipam: undefined }), await lab.container());
      expect((await inside(attachment)).flags.includes("UP"), "eth0 is down");
      expectEqual(await readAddresses(attachment.container.namespace, "eth0"), [], "addresses of eth0");
      expectEqual(attachment.result.ips, [], "ips of the result");
      (await attachment.check()).expectSilence();
    },
  },
  {
    title: "MAC in CNI_ARGS sets the container's MAC",
    source: "bridge README, CNI_ARGS MAC",
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab), await lab.container(), {
        args: `IgnoreUnknown=1;MAC=${macs.args}`,
      });
      expectEqual((await inside(attachment)).mac, macs.args, "MAC of eth0");
      expectEqual(attachment.inside().mac, macs.args, "MAC in the result");
    },
  },
  {
    title: "args.cni.mac sets the container's MAC, before CNI_ARGS",
    source: "bridge README, args.cni.mac",
    async run(lab) {
      const config = bridgeConfig(lab, { args: { cni: { mac: macs.cni } } });
      const attachment = await lab.attach(config, await lab.container(), {
        args: `IgnoreUnknown=1;MAC=${macs.args}`,
      });
      expectEqual((await inside(attachment)).mac, macs.cni, "MAC of eth0");
    },
  },
  {
    title: "runtimeConfig.mac sets the container's MAC, before all others",
    source: "CONVENTIONS, mac; bridge README",
    async run(lab) {
      const config = bridgeConfig(lab, {
        capabilities: { mac: true },
        args: { cni: { mac: macs.cni } },
        runtimeConfig: { mac: macs.runtime },
      });
      const attachment = await lab.attach(config, await lab.container(), {
        args: `IgnoreUnknown=1;MAC=${macs.args}`,
      });
      expectEqual((await inside(attachment)).mac, macs.runtime, "MAC of eth0");
    },
  },
  {
    title: "dns of the network takes the place of the IPAM's",
    source: "bridge README, dns",
    reference: "v1.1.1 drops the IPAM's dns in any case",
    async run(lab) {
      const ipam = await lab.ipam("scripted-ipam");
      await ipam.answer("ADD", {
        cniVersion: "1.0.0",
        ips: [{ address: "10.77.0.42/24" }],
        dns: { nameservers: ["192.0.2.1"], domain: "ipam.test" },
      });
      await ipam.answer("DEL", "");
      const delegated = { ipam: { type: "scripted-ipam" } };
      const own = await lab.attach(bridgeConfig(lab, delegated), await lab.container());
      expectEqual(
        own.result.dns,
        { nameservers: ["192.0.2.1"], domain: "ipam.test" },
        "dns without dns in the config",
      );
      const over = await lab.attach(
        bridgeConfig(lab, { ...delegated, dns: { search: ["net.test"] } }),
        await lab.container(),
      );
      expectEqual(over.result.dns, { search: ["net.test"] }, "dns with dns in the config");
    },
  },
  {
    title: "enabledad decides whether the container checks for duplicate addresses",
    source: "bridge README, enabledad",
    needs: ["IPv6"],
    async run(lab) {
      const ipam = hostLocal(lab, { subnet: "fd00:77::/64" });
      const off = await lab.attach(bridgeConfig(lab, { ipam }), await lab.container());
      const on = await lab.attach(bridgeConfig(lab, { ipam, enabledad: true }), await lab.container());
      expectEqual(
        await off.container.namespace.sysctl("net/ipv6/conf/eth0/accept_dad"),
        "0",
        "accept_dad without enabledad",
      );
      expectEqual(
        await on.container.namespace.sysctl("net/ipv6/conf/eth0/accept_dad"),
        "1",
        "accept_dad with enabledad",
      );
    },
  },
  {
    title: "neighbours are told of the container's address: arp_notify is on",
    source: "bridge plugin; cni#88",
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab), await lab.container());
      expectEqual(
        await attachment.container.namespace.sysctl("net/ipv4/conf/eth0/arp_notify"),
        "1",
        "arp_notify of eth0",
      );
    },
  },
  {
    title: "the bridge and the host side take no router advertisements",
    source: "bridge plugin: accept_ra=0",
    needs: ["IPv6"],
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab), await lab.container());
      for (const link of ["br0", attachment.hostSide().name]) {
        const [takesThem, isOff] = await Promise.all(
          ["accept_ra", "disable_ipv6"].map((name) => lab.host.sysctl(`net/ipv6/conf/${link}/${name}`)),
        );
        expect(takesThem === "0" || isOff === "1", `${link} has IPv6 with accept_ra ${takesThem}`);
      }
    },
  },
  {
    title: "macspoofchk drops frames with another source MAC",
    source: "bridge README, macspoofchk",
    needs: ["nftables bridge family"],
    async run(lab) {
      const config = bridgeConfig(lab, { isGateway: true, macspoofchk: true });
      const attachment = await lab.attach(config, await lab.container());
      const { namespace } = attachment.container;
      expect(await ping(namespace, "10.77.0.1"), "the container does not reach its gateway with its own MAC");
      await namespace.ip("link set eth0 address 02:66:66:66:66:66");
      expect(!(await ping(namespace, "10.77.0.1", 1)), "the container reaches its gateway with a forged MAC");
      await namespace.ip(`link set eth0 address ${attachment.inside().mac}`);
    },
  },
  {
    title: "two attachments with macspoofchk do not disturb each other, nor does the DEL of one",
    source: "bridge README, macspoofchk",
    needs: ["nftables bridge family"],
    async run(lab) {
      const config = bridgeConfig(lab, { isGateway: true, macspoofchk: true });
      const one = await lab.attach(config, await lab.container());
      const two = await lab.attach(config, await lab.container());
      (await one.delWithResult()).expectSilence();
      expect(
        await ping(two.container.namespace, "10.77.0.1"),
        "the second container does not reach its gateway",
      );
      await two.container.namespace.ip("link set eth0 address 02:66:66:66:66:66");
      expect(
        !(await ping(two.container.namespace, "10.77.0.1", 1)),
        "forged frames pass after the DEL of another container",
      );
    },
  },
  {
    title: "vlan makes the port an untagged member of that VLAN, and of no other",
    source: "bridge README, vlan, preserveDefaultVlan",
    needs: ["bridge VLAN filtering"],
    async run(lab) {
      const attachment = await lab.attach(bridgeConfig(lab, { vlan: 100 }), await lab.container());
      expectEqual((await readLink(lab.host, "br0"))?.data["vlan_filtering"], 1, "vlan_filtering of br0");
      const vlans = await readPortVlans(lab.host, attachment.hostSide().name);
      expectEqual([...vlans.keys()], [100], "VLANs of the port");
      expectEqual([...(vlans.get(100) ?? [])].sort(), ["Egress Untagged", "PVID"], "flags of VLAN 100");
    },
  },
  {
    title: "preserveDefaultVlan keeps the port in VLAN 1",
    source: "bridge README, preserveDefaultVlan",
    needs: ["bridge VLAN filtering"],
    async run(lab) {
      const attachment = await lab.attach(
        bridgeConfig(lab, { vlan: 100, preserveDefaultVlan: true }),
        await lab.container(),
      );
      const vlans = await readPortVlans(lab.host, attachment.hostSide().name);
      expectEqual(
        [...vlans.keys()].sort((left, right) => left - right),
        [1, 100],
        "VLANs of the port",
      );
    },
  },
  {
    title: "vlanTrunk makes the port a tagged member of each VLAN in the list",
    source: "bridge README, vlanTrunk",
    needs: ["bridge VLAN filtering"],
    reference: "v1.1.1 is older than the field",
    async run(lab) {
      const vlanTrunk = [{ id: 101 }, { minID: 200, maxID: 202 }];
      const attachment = await lab.attach(bridgeConfig(lab, { vlan: 100, vlanTrunk }), await lab.container());
      const vlans = await readPortVlans(lab.host, attachment.hostSide().name);
      expectEqual(
        [...vlans.keys()].sort((left, right) => left - right),
        [100, 101, 200, 201, 202],
        "VLANs of the port",
      );
      expect((vlans.get(201) ?? []).length === 0, `VLAN 201 is not tagged: ${show(vlans.get(201))}`);
    },
  },
  {
    title: "containers in different VLANs of one bridge do not reach each other",
    source: "bridge README, vlan",
    needs: ["bridge VLAN filtering"],
    async run(lab) {
      const one = await lab.attach(bridgeConfig(lab, { vlan: 100 }), await lab.container());
      const same = await lab.attach(bridgeConfig(lab, { vlan: 100 }), await lab.container());
      const other = await lab.attach(bridgeConfig(lab, { vlan: 101 }), await lab.container());
      expect(
        await ping(one.container.namespace, same.ip()),
        "containers of one VLAN do not reach each other",
      );
      expect(
        !(await ping(one.container.namespace, other.ip(), 1)),
        "containers of different VLANs reach each other",
      );
    },
  },
  {
    title: "a gateway with vlan answers within that VLAN, and its helper link goes with the last attachment",
    source: "bridge README, vlan and isGateway; plugins#1175",
    needs: ["bridge VLAN filtering"],
    reference: "the helper veth is never removed",
    async run(lab) {
      const attachment = await lab.attach(
        bridgeConfig(lab, { vlan: 100, isGateway: true }),
        await lab.container(),
      );
      expect(
        await ping(attachment.container.namespace, "10.77.0.1"),
        "the container does not reach its gateway",
      );
    },
  },
  {
    title: "the ends of one pair are removed with a container's other attachment left alone",
    source: "SPEC 1.1.0: an attachment is (container, interface)",
    async run(lab) {
      const container = await lab.container();
      const config = bridgeConfig(lab, { isGateway: true });
      const first = await lab.attach(config, container);
      const second = await lab.attach(config, container, { ifName: "eth1" });
      expect(first.ip() !== second.ip(), `both interfaces have ${first.ip()}`);
      (await first.delWithResult()).expectSilence();
      const links = (await readLinks(container.namespace)).map((link) => link.name);
      expectEqual(
        links.filter((name) => name.startsWith("eth")),
        ["eth1"],
        "interfaces after DEL of eth0",
      );
      expect(await ping(container.namespace, "10.77.0.1"), "eth1 does not work after DEL of eth0");
    },
  },
];
