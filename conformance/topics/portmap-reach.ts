import type { Case } from "#conformance/case.ts";
import { gateway4, gateway6 } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { askServer } from "#conformance/traffic.ts";
import {
  bridged,
  craftLoopbackRoute,
  mapping,
  portmapConfig,
  portmapReadme,
  published,
  servedPort,
} from "./portmap-network.ts";

const both = [mapping(8080), mapping(8080, { protocol: "udp" })];
const nobody = /^nobody: /;

export const reachCases: readonly Case[] = [
  {
    title: "the outside reaches the port by the host's address, and is seen as it is",
    source: portmapReadme,
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, both);
      for (const protocol of ["tcp", "udp"] as const)
        expectEqual(
          await askServer(outside.namespace, protocol, outside.host4, 8080),
          outside.ip4,
          `source seen by ${protocol}`,
        );
    },
  },
  {
    title: "the outside reaches the port by IPv6 too",
    source: portmapReadme,
    needs: ["IPv6"],
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, both);
      for (const protocol of ["tcp", "udp"] as const)
        expectEqual(
          await askServer(outside.namespace, protocol, outside.host6, 8080),
          outside.ip6,
          `source seen by ${protocol}`,
        );
    },
  },
  {
    title: "the host reaches the port by 127.0.0.1 and by its other addresses",
    source: `${portmapReadme}, snat`,
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, both);
      for (const protocol of ["tcp", "udp"] as const) {
        expectEqual(
          await askServer(lab.host, protocol, "127.0.0.1", 8080),
          gateway4,
          `source seen by ${protocol}`,
        );
        expectEqual(
          await askServer(lab.host, protocol, outside.host4, 8080),
          outside.host4,
          `source seen by ${protocol}`,
        );
      }
    },
  },
  {
    title: "the container reaches its own port by the host's address",
    source: `${portmapReadme}, snat (hairpin)`,
    reference: "only with the bridge's hairpinMode, where bridges hand frames to the firewall",
    async run(lab) {
      const outside = await lab.outside();
      const { container } = await published(lab, both);
      for (const protocol of ["tcp", "udp"] as const)
        expectEqual(
          await askServer(container.namespace, protocol, outside.host4, 8080),
          gateway4,
          `source seen by ${protocol}`,
        );
    },
  },
  {
    title: "a neighbour on the bridge reaches the port by the host's address, in both families",
    source: `${portmapReadme}, snat (hairpin)`,
    needs: ["IPv6"],
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, both);
      const { container } = await bridged(lab);
      expectEqual(await askServer(container.namespace, "tcp", outside.host4, 8080), gateway4, "source seen");
      expectEqual(await askServer(container.namespace, "udp", gateway4, 8080), gateway4, "source seen");
      expectEqual(await askServer(container.namespace, "tcp", outside.host6, 8080), gateway6, "source seen");
    },
  },
  {
    title: "a container of another network reaches the port by the host's address",
    source: portmapReadme,
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, both);
      const { container } = await bridged(lab, "net-b");
      const seen = await askServer(container.namespace, "tcp", outside.host4, 8080);
      expect(!nobody.test(seen), seen);
    },
  },
  {
    title: "a port of the container that is not published is reached by no address of the host",
    source: portmapReadme,
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, both);
      for (const port of [servedPort, 8081]) {
        const seen = await askServer(outside.namespace, "tcp", outside.host4, port);
        expect(nobody.test(seen), `port ${port} answers ${seen}`);
      }
    },
  },
  {
    title: "a port on one address of the host is reached by no other",
    source: `${portmapReadme}, hostIP`,
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, [
        mapping(8080, { hostIP: "127.0.0.1" }),
        mapping(8081, { hostIP: outside.host4 }),
      ]);
      expectEqual(await askServer(lab.host, "tcp", "127.0.0.1", 8080), gateway4, "source seen");
      expectEqual(await askServer(outside.namespace, "tcp", outside.host4, 8081), outside.ip4, "source seen");
      const [outer, inner] = [
        await askServer(outside.namespace, "tcp", outside.host4, 8080),
        await askServer(lab.host, "tcp", "127.0.0.1", 8081),
      ];
      expect(nobody.test(outer), `the port of 127.0.0.1 answers the outside ${outer}`);
      expect(nobody.test(inner), `the port of ${outside.host4} answers 127.0.0.1 ${inner}`);
    },
  },
  {
    title: "a port on 127.0.0.1 is not reached by a crafted route from outside",
    source: "moby#41872, moby#45610",
    reference: "translates before it looks where the packet came from",
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, [mapping(8080, { hostIP: "127.0.0.1" })]);
      await craftLoopbackRoute(outside);
      const seen = await askServer(outside.namespace, "tcp", "127.0.0.1", 8080);
      expect(nobody.test(seen), `the port answers ${seen}`);
    },
  },
  {
    title: "what passes through the host to the same port elsewhere goes on",
    source: "plugins#1115",
    async run(lab) {
      const outside = await lab.outside();
      await lab.serve(outside.namespace, 8080);
      await published(lab, both);
      const { container } = await bridged(lab, "net-b");
      expectEqual(
        await askServer(container.namespace, "tcp", outside.ip4, 8080),
        outside.host4,
        "source seen by the outside's own port",
      );
    },
  },
  {
    title: "several containers, each with several ports, do not disturb each other",
    source: portmapReadme,
    async run(lab) {
      const outside = await lab.outside();
      const range = Array.from({ length: 40 }, (_, n) => mapping(9000 + n));
      const one = await published(lab, [...range, mapping(8080, { protocol: "udp" })]);
      await published(lab, [mapping(8080), mapping(9040)]);
      const ask = (protocol: "tcp" | "udp", port: number) =>
        askServer(outside.namespace, protocol, outside.host4, port);
      for (const port of [9000, 9039, 9040, 8080])
        expectEqual(await ask("tcp", port), outside.ip4, `port ${port}`);
      expectEqual(await ask("udp", 8080), outside.ip4, "port 8080 of UDP");
      (await one.del()).expectSilence();
      for (const port of [9040, 8080]) expectEqual(await ask("tcp", port), outside.ip4, `port ${port}`);
      expect(nobody.test(await ask("tcp", 9000)), "a port answers after DEL");
    },
  },
  {
    title: "masqAll: the container sees everybody under an address of the host",
    source: `${portmapReadme}, masqAll`,
    reference: "unknown before 1.4.0",
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, both, { masqAll: true });
      expectEqual(await askServer(outside.namespace, "tcp", outside.host4, 8080), gateway4, "source seen");
    },
  },
  {
    title: "snat false: the outside reaches the port, 127.0.0.1 of the host does not",
    source: `${portmapReadme}, snat`,
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, both, { snat: false });
      expectEqual(await askServer(outside.namespace, "tcp", outside.host4, 8080), outside.ip4, "source seen");
      const seen = await askServer(lab.host, "tcp", "127.0.0.1", 8080);
      expect(nobody.test(seen), `127.0.0.1 is answered ${seen}`);
    },
  },
  {
    title: "backend iptables is accepted and does the same",
    source: `${portmapReadme}, backend`,
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, both, { backend: "iptables" });
      expectEqual(await askServer(outside.namespace, "tcp", outside.host4, 8080), outside.ip4, "source seen");
      expectEqual(await askServer(lab.host, "tcp", "127.0.0.1", 8080), gateway4, "source seen");
    },
  },
  {
    title: "conditions in iptables' words keep out whom they do not name",
    source: `${portmapReadme}, conditionsV4`,
    needs: ["iptables"],
    async run(lab) {
      const outside = await lab.outside();
      await published(lab, [mapping(8080, { hostIP: "0.0.0.0" })], { conditionsV4: ["-s", outside.ip4] });
      expectEqual(await askServer(outside.namespace, "tcp", outside.host4, 8080), outside.ip4, "source seen");
      const seen = await askServer(lab.host, "tcp", outside.host4, 8080);
      expect(nobody.test(seen), `the host is answered ${seen}`);
    },
  },
  {
    title: "a flow of UDP that went nowhere reaches the container once its port is published",
    source: "plugins#123, plugins#553",
    async run(lab) {
      const outside = await lab.outside();
      const previous = await bridged(lab);
      // Where connections are tracked already.
      await published(lab, [mapping(9000)]);
      const ask = () => askServer(outside.namespace, "udp", outside.host4, 8080, 5353);
      expect(nobody.test(await ask()), "somebody answers before ADD");
      await published(lab, both, {}, previous);
      expectEqual(await ask(), outside.ip4, "source seen");
    },
  },
  {
    title: "a flow of UDP to a container that has gone reaches the next one that publishes the port",
    source: "plugins#1190",
    reference: "forgets flows on ADD only",
    async run(lab) {
      const outside = await lab.outside();
      const first = await published(lab, both);
      const ask = () => askServer(outside.namespace, "udp", outside.host4, 8080, 5353);
      expectEqual(await ask(), outside.ip4, "source seen by the first");
      (await first.delWithResult()).expectSilence();
      expect(nobody.test(await ask()), "the first answers after its DEL");
      await published(lab, both);
      expectEqual(await ask(), outside.ip4, "source seen by the second");
    },
  },
];

export const passThroughCases: readonly Case[] = [
  {
    title: "the result is handed on as it came, at every version",
    source: "SPEC 1.0.0, ADD: a chained plugin passes prevResult on",
    async run(lab) {
      for (const version of ["0.3.1", "0.4.0", "1.0.0"]) {
        const before = await bridged(lab);
        const { result } = before;
        const ips = result.json["ips"];
        const prevResult = {
          ...result.json,
          cniVersion: version,
          ips: (Array.isArray(ips) ? ips : []).map((entry) => {
            const ip = entry as Record<string, string>;
            return version === "1.0.0" ? ip : { version: ip["address"]?.includes(":") ? "6" : "4", ...ip };
          }),
        };
        const after = await lab.attach(
          portmapConfig(before, [mapping(8080)], { cniVersion: version, prevResult }),
          before.container,
        );
        expectEqual(after.result.json["ips"], prevResult.ips, `ips at ${version}`);
        expectEqual(after.result.json["routes"], result.json["routes"], `routes at ${version}`);
        expectEqual(after.result.interfaces, result.interfaces, `interfaces at ${version}`);
        (await after.del()).expectSilence();
      }
    },
  },
  {
    title: "without mappings nothing is done",
    source: portmapReadme,
    async run(lab) {
      const before = await bridged(lab);
      for (const mappings of [undefined, []]) {
        await lab.unchanged(async () => {
          const reply = await lab.call("ADD", portmapConfig(before, mappings), {
            container: before.container,
          });
          expectEqual(reply.expectJson()["ips"], before.result.json["ips"], "ips");
        });
      }
    },
  },
  {
    title: "mappings are understood by the names that CRI sends",
    source: "CRI: HostPort, ContainerPort, Protocol, HostIP",
    async run(lab) {
      const outside = await lab.outside();
      const sent = { HostPort: 8080, ContainerPort: servedPort, Protocol: "tcp", HostIP: "" };
      await published(lab, [sent]);
      expectEqual(await askServer(outside.namespace, "tcp", outside.host4, 8080), outside.ip4, "source seen");
    },
  },
];
