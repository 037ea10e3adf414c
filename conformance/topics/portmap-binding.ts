import type { Case } from "#conformance/case.ts";
import { gateway4 } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { askServer, isUnanswered } from "#conformance/traffic.ts";
import { bridged, mapping, portmapConfig, portmapReadme, published } from "./portmap-network.ts";

const source = `${portmapReadme}, hostBinding`;
const reference = "has no such field";

/** Where ports are published that name no address of the host. */
export const bindingCases: readonly Case[] = [
  {
    title: "hostBinding of one family: the port is reached by that address, and by none of the other family",
    source,
    needs: ["IPv6"],
    reference,
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, [mapping(8080)], { hostBinding: { ipv4: "127.0.0.1" } });
      expectEqual(await askServer(lab.host, "tcp", "127.0.0.1", 8080), gateway4, "source seen");
      for (const host of [outside.host4, outside.host6])
        expect(await isUnanswered(outside.namespace, host, 8080), `the outside reaches ${host}`);
    },
  },
  {
    title: "hostBinding of both families: the port is reached by the two addresses, and not by 127.0.0.1",
    source,
    needs: ["IPv6"],
    reference,
    async run(lab) {
      const outside = await lab.outside();
      const hostBinding = { ipv4: outside.host4, ipv6: outside.host6 };
      await published(lab, [mapping(8080)], { hostBinding });
      for (const [host, ip] of [
        [outside.host4, outside.ip4],
        [outside.host6, outside.ip6],
      ] as const)
        expectEqual(await askServer(outside.namespace, "tcp", host, 8080), ip, `source seen by ${host}`);
      expect(await isUnanswered(lab.host, "127.0.0.1", 8080), "127.0.0.1 is answered");
    },
  },
  {
    title: "a mapping with hostIP of its own is published there, whatever hostBinding says",
    source,
    reference,
    async run(lab) {
      const outside = await lab.outside();
      const mappings = [mapping(8080), mapping(8081, { hostIP: outside.host4 })];
      await published(lab, mappings, { hostBinding: { ipv4: "127.0.0.1" } });
      expectEqual(await askServer(outside.namespace, "tcp", outside.host4, 8081), outside.ip4, "source seen");
      expect(await isUnanswered(outside.namespace, outside.host4, 8080), "the bound port is reached");
    },
  },
  {
    title: "a hostBinding that nothing can be published on is refused, with field and value",
    source,
    reference,
    async run(lab) {
      const previous = await bridged(lab);
      const { container } = previous;
      for (const [hostBinding, value] of [
        [{ ipv6: "::1" }, /::1/],
        [{ ipv4: "fd00::1" }, /fd00::1/],
        [{ ipv4: "224.0.0.1" }, /224\.0\.0\.1/],
      ] as const)
        await lab.refuse(portmapConfig(previous, [mapping(8080)], { hostBinding }), [/hostBinding/, value], {
          container,
          code: 7,
        });
    },
  },
];
