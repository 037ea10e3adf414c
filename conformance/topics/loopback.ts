import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { plainConfig } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import type { Namespace } from "#conformance/namespace.ts";
import { ping } from "#conformance/traffic.ts";
import { readLink } from "#conformance/witness.ts";

const loopbackPlugin = "loopback plugin";

async function isUp(namespace: Namespace): Promise<boolean> {
  return (await readLink(namespace, "lo"))?.flags.includes("UP") === true;
}

async function up(lab: Lab, extra: JsonObject = {}): Promise<Attachment> {
  return lab.attach(plainConfig("loopback", extra), await lab.container(), { ifName: "lo" });
}

export const loopbackCases: readonly Case[] = [
  {
    title: "ADD sets lo up, which answers by IPv4 and IPv6",
    source: loopbackPlugin,
    needs: ["IPv6"],
    async run(lab) {
      const { container } = await up(lab);
      expect(await isUp(container.namespace), "lo is down");
      for (const address of ["127.0.0.1", "::1"])
        expect(await ping(container.namespace, address), `no answer from ${address}`);
    },
  },
  {
    title: "the result has lo in the container with 127.0.0.1/8 and ::1/128",
    source: loopbackPlugin,
    async run(lab) {
      const { result, container } = await up(lab);
      expectEqual(
        result.interfaces,
        [{ name: "lo", mac: "00:00:00:00:00:00", sandbox: container.namespace.path }],
        "interfaces",
      );
      expectEqual(
        result.ips.map(({ address, interface: index }) => [address, index]),
        [
          ["127.0.0.1/8", 0],
          ["::1/128", 0],
        ],
        "ips",
      );
    },
  },
  {
    title: "ADD works at 0.3.1, as containerd calls it",
    source: "containerd CRI",
    async run(lab) {
      const container = await lab.container();
      const json = (
        await lab.call("ADD", plainConfig("loopback", { cniVersion: "0.3.1", name: "cni-loopback" }), {
          container,
          ifName: "lo",
        })
      ).expectJson();
      expectEqual(json["cniVersion"], "0.3.1", "cniVersion");
      expect(await isUp(container.namespace), "lo is down");
    },
  },
  {
    title: "CNI_IFNAME of another name means lo all the same",
    source: loopbackPlugin,
    async run(lab) {
      const container = await lab.container();
      await lab.attach(plainConfig("loopback"), container, { ifName: "eth0" });
      expect(await isUp(container.namespace), "lo is down");
    },
  },
  {
    title: "a second ADD succeeds, since lo is already as it should be",
    source: loopbackPlugin,
    async run(lab) {
      const first = await up(lab);
      await lab.attach(plainConfig("loopback"), first.container, { ifName: "lo" });
    },
  },
  {
    title: "prevResult is passed on as it is",
    source: "SPEC 1.1.0, ADD: prevResult must be passed through",
    async run(lab) {
      const prevResult = {
        cniVersion: "1.0.0",
        interfaces: [{ name: "eth0", mac: "02:00:00:00:00:01", sandbox: "/run/netns/x" }],
        ips: [{ address: "192.0.2.7/24", gateway: "192.0.2.1", interface: 0 }],
        routes: [{ dst: "0.0.0.0/0", gw: "192.0.2.1" }],
        dns: { nameservers: ["192.0.2.53"] },
      };
      expectEqual((await up(lab, { prevResult })).result.json, prevResult, "the result");
    },
  },
  {
    title: "an address on lo that is no loopback address is refused",
    source: "loopback plugin: loopback interface has non-loopback address",
    async run(lab) {
      const container = await lab.container();
      await container.namespace.ip("address add 192.0.2.7/32 dev lo");
      const reply = await lab.call("ADD", plainConfig("loopback"), { container, ifName: "lo" });
      reply.expectError({ names: /192\.0\.2\.7|lo/ });
    },
  },
  {
    title: "CHECK is silent while lo is up and fails once it is down",
    source: "SPEC 1.1.0, CHECK; loopback plugin",
    async run(lab) {
      const attachment = await up(lab);
      (await attachment.check()).expectSilence();
      await attachment.container.namespace.ip("link set lo down");
      (await attachment.check()).expectError({ names: /lo|down/ });
    },
  },
  {
    title: "DEL sets lo down",
    source: loopbackPlugin,
    async run(lab) {
      const attachment = await up(lab);
      (await attachment.delWithResult()).expectSilence();
      expect(!(await isUp(attachment.container.namespace)), "lo is up");
    },
  },
  {
    title: "DEL succeeds again, with an empty netns and with one that has gone",
    source: "SPEC 1.1.0, DEL: missing resources",
    async run(lab) {
      const attachment = await up(lab);
      (await attachment.delWithResult()).expectSilence();
      (await attachment.del()).expectSilence();
      (await attachment.del({ netns: "" })).expectSilence();
      await attachment.container.namespace.remove();
      (await attachment.del()).expectSilence();
    },
  },
  {
    title: "nothing on the host changes",
    source: "SPEC 1.1.0",
    async run(lab) {
      const container = await lab.container();
      await lab.unchanged(async () => {
        (await lab.call("ADD", plainConfig("loopback"), { container, ifName: "lo" })).expectJson();
        (await lab.call("DEL", plainConfig("loopback"), { container, ifName: "lo" })).expectSilence();
      });
    },
  },
  {
    title: "a namespace that has gone is an error for ADD",
    source: "SPEC 1.1.0, ADD: CNI_NETNS",
    async run(lab) {
      const container = await lab.container();
      await container.namespace.remove();
      (await lab.call("ADD", plainConfig("loopback"), { container, ifName: "lo" })).expectError({
        names: /netns|namespace/i,
      });
    },
  },
  {
    title: "GC and STATUS are silent",
    source: "SPEC 1.1.0, GC and STATUS",
    reference: "v1.1.1 ends at specification 1.0.0",
    async run(lab) {
      const config = plainConfig("loopback", { cniVersion: "1.1.0", "cni.dev/valid-attachments": [] });
      (await lab.call("GC", config)).expectSilence();
      (await lab.call("STATUS", config)).expectSilence();
    },
  },
];
