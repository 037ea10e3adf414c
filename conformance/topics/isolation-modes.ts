import type { Case } from "#conformance/case.ts";
import { dualStack } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { isUnanswered } from "#conformance/traffic.ts";
import {
  craftRoute,
  here,
  isolationReadme,
  mode,
  nat,
  placed,
  publish,
  reaches,
  there,
  unknown,
} from "./isolation-network.ts";
import { servedPort } from "./portmap-network.ts";

const families = [4, 6] as const;

export const modeCases: readonly Case[] = [
  {
    title: "gatewayMode nat-unprotected: the outside reaches the container's own address, in both families",
    source: isolationReadme,
    needs: ["IPv6"],
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, { ...mode("nat-unprotected"), ipam: dualStack(lab) });
      await publish(lab, target);
      await craftRoute(outside);
      for (const family of families)
        expect(
          await reaches(outside.namespace, target.ip(family)),
          `its IPv${family} address is not reached`,
        );
      expect(
        await reaches(outside.namespace, outside.host4, 8080),
        "the outside does not reach the published port",
      );
      (await target.check()).expectSilence();
    },
  },
  {
    title: "gatewayMode: nat of one family and nat-unprotected of the other",
    source: isolationReadme,
    needs: ["IPv6"],
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const gatewayMode = { ipv4: "nat", ipv6: "nat-unprotected" };
      const target = await placed(lab, { gatewayMode, ipam: dualStack(lab) });
      await craftRoute(outside);
      expect(await reaches(outside.namespace, target.ip(6)), "its IPv6 address is not reached");
      expect(await isUnanswered(outside.namespace, target.ip(), servedPort), "its IPv4 address is reached");
    },
  },
  {
    title: "gatewayMode routed, IPv6: the outside reaches published ports by the container's address",
    source: isolationReadme,
    needs: ["IPv6"],
    reference: unknown,
    async run(lab) {
      const outside = await lab.outside();
      const target = await placed(lab, { ...mode("routed"), ipam: dualStack(lab) });
      await craftRoute(outside);
      expect(
        await isUnanswered(outside.namespace, target.ip(6), servedPort),
        "the outside reaches a port that is not published",
      );
      await publish(lab, target);
      expect(await reaches(outside.namespace, target.ip(6)), "the outside does not reach the published port");
      expect(await isUnanswered(outside.namespace, outside.host6, 8080), "a port of the host leads there");
    },
  },
  {
    title:
      "gatewayMode isolated: neighbours reach each other, and the host has no address and reaches nobody",
    source: isolationReadme,
    needs: ["IPv6"],
    reference: unknown,
    async run(lab) {
      const { host4, host6 } = await lab.outside();
      const fields = { internal: true, ...mode("isolated"), ipam: dualStack(lab) };
      const one = await placed(lab, fields);
      const two = await placed(lab, fields);
      const own = await lab.host.shell(`ip -o address show dev ${here.bridge} scope global`);
      expectEqual(own, "", "addresses of the bridge");
      expectEqual(one.address().gateway, undefined, "gateway in the result");
      // By ways that both sides make themselves, and an address that the host has elsewhere.
      const back = [host4, host6].map((address) => `route add ${address} dev eth0`);
      await two.container.namespace.ipBatch(back);
      const ways = [here.subnet, "fd00:77::/64"].map((subnet) => `route add ${subnet} dev ${here.bridge}`);
      await lab.host.ipBatch(ways);
      for (const family of families) {
        expect(await reaches(one.container.namespace, two.ip(family)), `no neighbour by IPv${family}`);
        expect(
          await isUnanswered(lab.host, two.ip(family), servedPort),
          `the host reaches it by IPv${family}`,
        );
      }
      await lab.host.ipBatch(ways.map((way) => way.replace("add", "del")));
    },
  },
  {
    title:
      "networkIsolation false: another network reaches the container's own address, unless it is isolated",
    source: isolationReadme,
    needs: ["IPv6"],
    reference: unknown,
    async run(lab) {
      const open = { ...mode("nat-unprotected"), networkIsolation: false };
      const target = await placed(lab, { ...open, ipam: dualStack(lab) });
      const isolated = { name: "net-c", bridge: "br2", subnet: "10.79.0.0/24" };
      const other = await placed(lab, { ...open, ipMasq: false }, there);
      const stranger = await placed(lab, nat, isolated);
      expect(await reaches(other.container.namespace, target.ip()), "another network does not reach it");
      expect(await reaches(target.container.namespace, other.ip()), "it does not reach another network");
      expect(
        await isUnanswered(stranger.container.namespace, target.ip(), servedPort),
        "a network with networkIsolation reaches it",
      );
    },
  },
];
