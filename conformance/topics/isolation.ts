import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, dualStack, gateway4 } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { askServer, isUnanswered } from "#conformance/traffic.ts";
import {
  craftRoute,
  isolationReadme,
  nat,
  placed,
  publish,
  reaches,
  there,
  unknown,
} from "./isolation-network.ts";
import { servedPort } from "./portmap-network.ts";

export const isolationCases: readonly Case[] = [
  {
    title: "without any field of these, whoever has a route reaches the container",
    source: `${isolationReadme}: the reference's way`,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, {});
      await craftRoute(outside);
      expect(await reaches(outside.namespace, target.ip()), "the outside does not reach it");
    },
  },
  {
    title: "gatewayMode nat: the outside reaches published ports alone",
    source: isolationReadme,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, nat);
      await publish(lab, target);
      await craftRoute(outside);
      expect(
        await isUnanswered(outside.namespace, target.ip(), servedPort),
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
    source: isolationReadme,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, { gatewayMode: { ipv4: "routed" } });
      await craftRoute(outside);
      expect(
        await isUnanswered(outside.namespace, target.ip(), servedPort),
        "the outside reaches a port that is not published",
      );
      await publish(lab, target);
      expectEqual(
        await askServer(outside.namespace, "tcp", target.ip(), servedPort),
        outside.ip4,
        "source seen",
      );
      expect(await isUnanswered(outside.namespace, outside.host4, 8080), "a port of the host leads there");
    },
  },
  {
    title: "networkIsolation: another network reaches published ports alone",
    source: isolationReadme,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, nat);
      const other = await placed(lab, nat, there);
      await publish(lab, target);
      const from = other.container.namespace;
      expect(
        await isUnanswered(from, target.ip(), servedPort),
        "another network reaches the container's own address",
      );
      expect(await reaches(from, outside.host4, 8080), "another network does not reach the published port");
    },
  },
  {
    title: "internal: no default route, and no way out whatever routes the container makes",
    source: isolationReadme,
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace, servedPort);
      const { container } = await placed(lab, { internal: true });
      expectEqual(await container.namespace.shell("ip route show default"), "", "default route");
      await container.namespace.shell(`ip route add default via ${gateway4}`);
      expect(await isUnanswered(container.namespace, outside.ip4, servedPort), "the outside is reached");
    },
  },
  {
    title: "internal: no published port of another network is reached by the own gateway",
    source: `${isolationReadme}; the hole of moby's nftables`,
    reference: unknown,
    async run(lab) {
      const inside = await placed(lab, { internal: true });
      await publish(lab, await placed(lab, nat, there));
      expect(await isUnanswered(inside.container.namespace, gateway4, 8080), "it is reached");
    },
  },
  {
    title: "icc false: containers of one network don't reach each other, and the host does",
    source: isolationReadme,
    reference: unknown,
    async run(lab) {
      const one = await placed(lab, { icc: false });
      const two = await placed(lab, { icc: false });
      expect(await isUnanswered(one.container.namespace, two.ip(), servedPort), "a neighbour is reached");
      expect(await reaches(lab.host, two.ip()), "the host does not reach it");
    },
  },
  {
    title: "icc false: by IPv6 containers don't reach each other either, and the outside they do",
    source: isolationReadme,
    needs: ["IPv6"],
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace, servedPort);
      const fields = { icc: false, ipam: dualStack(lab) };
      const { container } = await placed(lab, fields);
      const neighbour = await placed(lab, fields);
      expect(await reaches(lab.host, neighbour.ip(6)), "the host does not reach it");
      expect(
        await isUnanswered(container.namespace, neighbour.ip(6), servedPort),
        "a neighbour is reached by IPv6",
      );
      expect(await reaches(container.namespace, outside.ip6), "the outside is not reached");
    },
  },
  {
    title: "what contradicts itself is refused, with the field's name",
    source: isolationReadme,
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
