import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { routedBridge, subnet4, subnet6 } from "#conformance/configs.ts";
import { expectEqual } from "#conformance/failure.ts";
import type { Lab, Outside } from "#conformance/lab.ts";
import { askServer } from "#conformance/traffic.ts";

const readme = "bridge README";
const unknown = "has no such field";

/** A container with addresses of both families, on a bridge that routes. */
async function routed(lab: Lab, extra: JsonObject): Promise<Attachment> {
  const config = routedBridge(lab, extra);
  return lab.attach(config, await lab.container());
}

/** Under which addresses the outside sees the container. */
async function seenOutside({ container }: Attachment, { ip4, ip6 }: Outside): Promise<readonly string[]> {
  return Promise.all([ip4, ip6].map((host) => askServer(container.namespace, "tcp", host)));
}

/** As what containers leave the host. */
export const sourceCases: readonly Case[] = [
  {
    title: "snat: the outside sees the fixed address of each family, and not the one of the way out",
    source: `${readme}, snat`,
    needs: ["IPv6"],
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace);
      const [ipv4, ipv6] = ["198.51.100.77", "2001:db8:51::77"];
      // Deprecated, as masquerading would take the newest IPv6 address of the way out otherwise.
      await lab.host.ipBatch([
        `address add ${ipv4}/24 dev uplink0`,
        `address add ${ipv6}/64 dev uplink0 nodad preferred_lft 0`,
      ]);
      const attachment = await routed(lab, { ipMasq: true, snat: { ipv4, ipv6 } });
      expectEqual(await seenOutside(attachment, outside), [ipv4, ipv6], "sources seen outside");
      (await attachment.check()).expectSilence();
    },
  },
  {
    title: "snat of one family leaves the other with the address of the way out",
    source: `${readme}, snat, ipMasq`,
    needs: ["IPv6"],
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace);
      await lab.host.ip("address add 198.51.100.77/24 dev uplink0");
      const attachment = await routed(lab, { ipMasq: true, snat: { ipv4: "198.51.100.77" } });
      expectEqual(
        await seenOutside(attachment, outside),
        ["198.51.100.77", outside.host6],
        "sources seen outside",
      );
    },
  },
  {
    title: "without ipMasq the outside sees the container's own addresses, whatever gatewayMode says",
    source: `${readme}, ipMasq, gatewayMode`,
    needs: ["IPv6"],
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace);
      await outside.namespace.ipBatch([
        `route add ${subnet4} via ${outside.host4}`,
        `route add ${subnet6} via ${outside.host6}`,
      ]);
      const gatewayMode = { ipv4: "nat", ipv6: "nat" };
      const attachment = await routed(lab, { ipMasq: false, gatewayMode });
      expectEqual(
        await seenOutside(attachment, outside),
        [attachment.ip(), attachment.ip(6)],
        "sources seen outside",
      );
    },
  },
];
