import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, gateway4, hostLocal } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab, Outside } from "#conformance/lab.ts";
import type { Namespace } from "#conformance/namespace.ts";
import { askServer } from "#conformance/traffic.ts";
import { mapping, portmapConfig, servedPort } from "./portmap-network.ts";

const readme = "bridge README";
const unknown = "has no such field";
const nobody = /^nobody: /;
const nat: JsonObject = { gatewayMode: { ipv4: "nat", ipv6: "nat" }, networkIsolation: true };

interface Place {
  readonly name: string;
  readonly bridge: string;
  readonly subnet: string;
}
const here: Place = { name: "net-a", bridge: "br0", subnet: "10.77.0.0/24" };
const there: Place = { name: "net-b", bridge: "br1", subnet: "10.78.0.0/24" };

/** A container with a server, behind a bridge with these fields. */
async function placed(lab: Lab, extra: JsonObject, { subnet, ...place }: Place = here): Promise<Attachment> {
  const config = bridgeConfig(lab, {
    ...place,
    isDefaultGateway: true,
    ipMasq: true,
    ipam: hostLocal(lab, { subnet }),
    ...extra,
  });
  const attachment = await lab.attach(config, await lab.container());
  await lab.serve(attachment.container.namespace, servedPort);
  return attachment;
}

/** Port 8080 of the host leads to its server. */
async function publish(lab: Lab, attachment: Attachment): Promise<void> {
  await lab.attach(portmapConfig(attachment, [mapping(8080)]), attachment.container);
}

async function reaches(from: Namespace, host: string, port = servedPort): Promise<boolean> {
  return !nobody.test(await askServer(from, "tcp", host, port));
}

async function craftRoute({ namespace, host4 }: Outside, { subnet }: Place = here): Promise<void> {
  await namespace.shell(`ip route add ${subnet} via ${host4}`);
}

export const isolationCases: readonly Case[] = [
  {
    title: "without any field of these, whoever has a route reaches the container",
    source: `${readme}: the reference's way`,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, {});
      await craftRoute(outside);
      expect(await reaches(outside.namespace, target.ip()), "the outside does not reach it");
    },
  },
  {
    title: "gatewayMode nat: the outside reaches published ports alone",
    source: readme,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, nat);
      await publish(lab, target);
      await craftRoute(outside);
      expect(
        !(await reaches(outside.namespace, target.ip())),
        "the outside reaches the container's own address",
      );
      expect(
        await reaches(outside.namespace, outside.host4, 8080),
        "the outside does not reach the published port",
      );
    },
  },
  {
    title: "gatewayMode routed: the outside reaches published ports by the container's address, untranslated",
    source: readme,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, { gatewayMode: { ipv4: "routed" } });
      await craftRoute(outside);
      expect(
        !(await reaches(outside.namespace, target.ip())),
        "the outside reaches a port that is not published",
      );
      await publish(lab, target);
      expectEqual(
        await askServer(outside.namespace, "tcp", target.ip(), servedPort),
        outside.ip4,
        "source seen",
      );
      expect(!(await reaches(outside.namespace, outside.host4, 8080)), "a port of the host leads there");
    },
  },
  {
    title: "networkIsolation: another network reaches published ports alone",
    source: readme,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, nat);
      const other = await placed(lab, nat, there);
      await publish(lab, target);
      const from = other.container.namespace;
      expect(!(await reaches(from, target.ip())), "another network reaches the container's own address");
      expect(await reaches(from, outside.host4, 8080), "another network does not reach the published port");
    },
  },
  {
    title: "internal: no default route, and no way out whatever routes the container makes",
    source: readme,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace, servedPort);
      const { container } = await placed(lab, { internal: true });
      expectEqual(await container.namespace.shell("ip route show default"), "", "default route");
      await container.namespace.shell(`ip route add default via ${gateway4}`);
      expect(!(await reaches(container.namespace, outside.ip4)), "the outside is reached");
    },
  },
  {
    title: "internal: no published port of another network is reached by the own gateway",
    source: `${readme}; the hole of moby's nftables`,
    reference: unknown,
    async run(lab) {
      const inside = await placed(lab, { internal: true });
      await publish(lab, await placed(lab, nat, there));
      expect(!(await reaches(inside.container.namespace, gateway4, 8080)), "it is reached");
    },
  },
  {
    title: "icc false: containers of one network don't reach each other, and the host does",
    source: readme,
    reference: unknown,
    async run(lab) {
      const one = await placed(lab, { icc: false });
      const two = await placed(lab, { icc: false });
      expect(!(await reaches(one.container.namespace, two.ip())), "a neighbour is reached");
      expect(await reaches(lab.host, two.ip()), "the host does not reach it");
    },
  },
  {
    title: "what contradicts itself is refused, with the field's name",
    source: readme,
    reference: unknown,
    async run(lab) {
      const config = (extra: JsonObject) => bridgeConfig(lab, { isGateway: true, ...extra });
      await lab.refuse(config({ gatewayMode: { ipv4: "isolated" } }), /gatewayMode/, { code: 7 });
      await lab.refuse(config({ gatewayMode: { ipv6: "bridged" } }), [/gatewayMode/, /bridged/], { code: 7 });
      await lab.refuse(config({ snat: { ipv4: "192.0.2.1" } }), /snat/, { code: 7 });
    },
  },
  {
    title: "after ADD, DEL and ADD there is no more than after the first ADD",
    source: "SPEC 1.1.0, DEL",
    async run(lab) {
      const cycle = async (): Promise<void> => {
        const attachment = await placed(lab, { ...nat, icc: false, ipspoofchk: true });
        (await attachment.delWithResult()).expectSilence();
      };
      await cycle();
      await lab.unchanged(cycle);
    },
  },
];
