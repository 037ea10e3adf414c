import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, hostLocal, plainConfig } from "#conformance/configs.ts";
import { expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { readLink, readLinks } from "#conformance/witness.ts";

const vrfReadme = "vrf README";

function vrfConfig(previous: Attachment, extra: JsonObject = {}): JsonObject {
  return plainConfig("vrf", { vrfname: "blue", prevResult: previous.result.json, ...extra });
}

async function inVrf(
  lab: Lab,
  extra: JsonObject = {},
): Promise<{ previous: Attachment; attachment: Attachment }> {
  const previous = await lab.attach(bridgeConfig(lab), await lab.container());
  return { previous, attachment: await lab.attach(vrfConfig(previous, extra), previous.container) };
}

async function vrfs({ container }: Attachment): Promise<readonly string[]> {
  return (await readLinks(container.namespace)).filter(({ kind }) => kind === "vrf").map(({ name }) => name);
}

export const vrfCases: readonly Case[] = [
  {
    title: "the interface is in the VRF, with its address, and routed by the VRF's table",
    source: vrfReadme,
    needs: ["vrf"],
    async run(lab) {
      const { attachment } = await inVrf(lab, { table: 10 });
      const { namespace } = attachment.container;
      expectEqual((await readLink(namespace, "eth0"))?.master, "blue", "master");
      const [route] = JSON.parse(
        await namespace.shell("ip -j route show table 10 type unicast"),
      ) as JsonObject[];
      expectEqual([route?.["dst"], route?.["dev"]], ["10.77.0.0/24", "eth0"], "route in table 10");
    },
  },
  {
    title: "CHECK of the plugin before allows for its routes being the VRF's",
    source: "SPEC 1.1.0, CHECK: changes by plugins that run later in the chain",
    reference: "looks into the main table alone",
    needs: ["vrf"],
    async run(lab) {
      const config = bridgeConfig(lab, { isDefaultGateway: true });
      const previous = await lab.attach(config, await lab.container());
      await lab.attach(vrfConfig(previous, { table: 10 }), previous.container);
      (await previous.check()).expectSilence();
      await previous.container.namespace.shell("ip route del default table 10");
      (await previous.check()).expectError({ names: /0\.0\.0\.0\/0/ });
    },
  },
  {
    title: "two interfaces share a VRF, and the last one removes it",
    source: vrfReadme,
    needs: ["vrf"],
    async run(lab) {
      const { previous, attachment } = await inVrf(lab);
      const ipam = hostLocal(lab, { subnet: "10.78.0.0/24" });
      const other = bridgeConfig(lab, { name: "net-b", bridge: "br1", ipam });
      const second = await lab.attach(other, previous.container, { ifName: "eth1" });
      const config = vrfConfig(second, { name: "net-b" });
      const joined = await lab.attach(config, previous.container, { ifName: "eth1" });
      expectEqual(await vrfs(attachment), ["blue"], "VRFs");
      (await attachment.delWithResult()).expectSilence();
      expectEqual(await vrfs(attachment), ["blue"], "VRFs");
      (await joined.delWithResult()).expectSilence();
      expectEqual(await vrfs(attachment), [], "VRFs");
    },
  },
  {
    title: "another table than that of the VRF, and an interface with a master, are refused",
    source: vrfReadme,
    needs: ["vrf"],
    async run(lab) {
      const previous = await lab.attach(bridgeConfig(lab), await lab.container());
      const { container } = previous;
      await container.namespace.ip("link add blue type vrf table 10");
      await lab.refuse(vrfConfig(previous, { table: 11 }), /already exist with different routing table/, {
        container,
      });
      await container.namespace.ip("link set eth0 master blue");
      await lab.refuse(vrfConfig(previous, { vrfname: "red" }), /has already a master set/, { container });
    },
  },
  {
    title: "vrfname and prevResult are needed",
    source: vrfReadme,
    async run(lab) {
      const previous = await lab.attach(bridgeConfig(lab), await lab.container());
      const { vrfname: _, ...config } = vrfConfig(previous);
      await lab.refuse(config, /[Vv][Rr][Ff]/, { container: previous.container });
      await lab.refuse(plainConfig("vrf", { vrfname: "blue" }), /prevResult/);
    },
  },
  {
    title: "DEL succeeds when the interface or the namespace is gone, and again",
    source: "SPEC 1.1.0, DEL: missing resources; plugins#1282",
    reference: "fails without the interface",
    needs: ["vrf"],
    async run(lab) {
      const { previous, attachment } = await inVrf(lab);
      await attachment.container.namespace.ip("link del eth0");
      (await attachment.delWithResult()).expectSilence();
      (await attachment.delWithResult()).expectSilence();
      await attachment.container.namespace.remove();
      (await attachment.del({ netns: "" })).expectSilence();
      (await previous.del({ netns: "" })).expectSilence();
    },
  },
  {
    title: "CHECK is silent after ADD, and fails when the interface has left",
    source: "SPEC 1.1.0, CHECK",
    needs: ["vrf"],
    async run(lab) {
      const { attachment } = await inVrf(lab);
      (await attachment.check()).expectSilence();
      await attachment.container.namespace.ip("link set eth0 nomaster");
      (await attachment.check()).expectError({});
    },
  },
  {
    title: "GC and STATUS are silent",
    source: "SPEC 1.1.0, GC and STATUS",
    reference: "v1.1.1 ends at specification 1.0.0",
    needs: ["vrf"],
    async run(lab) {
      const { attachment } = await inVrf(lab);
      const valid = [{ containerID: attachment.container.id, ifname: "eth0" }];
      const config = plainConfig("vrf", {
        cniVersion: "1.1.0",
        vrfname: "blue",
        "cni.dev/valid-attachments": valid,
      });
      (await lab.call("GC", config)).expectSilence();
      expectEqual(await vrfs(attachment), ["blue"], "VRFs");
      (await lab.call("STATUS", config)).expectSilence();
    },
  },
];
