import type { Case } from "#conformance/case.ts";
import { bridgeConfig, gateway4, hostLocal } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { readRoutes } from "#conformance/witness.ts";

export const routeCases: readonly Case[] = [
  {
    title: "a route of the IPAM without gateway goes by the address's gateway",
    source: "bridge README, ipam routes",
    async run(lab) {
      const ipam = hostLocal(lab, {
        routes: [{ dst: "192.0.2.0/24" }, { dst: "198.18.0.0/15", gw: "10.77.0.9" }],
      });
      const { container } = await lab.attach(
        bridgeConfig(lab, { isGateway: true, ipam }),
        await lab.container(),
      );
      const routes = await readRoutes(container.namespace);
      const via = (dst: string): string | undefined => routes.find((route) => route.dst === dst)?.gateway;
      expectEqual(
        [via("192.0.2.0/24"), via("198.18.0.0/15")],
        [gateway4, "10.77.0.9"],
        "gateways of the two routes",
      );
    },
  },
  {
    title: "several gateways for one destination are all kept",
    source: "SPEC 1.1.0, ADD: routes; plugins v1.1: append",
    async run(lab) {
      const ipam = hostLocal(lab, {
        routes: ["10.77.0.8", "10.77.0.9"].map((gw) => ({ dst: "192.0.2.0/24", gw })),
      });
      const { container } = await lab.attach(bridgeConfig(lab, { ipam }), await lab.container());
      const shown = JSON.stringify((await readRoutes(container.namespace)).map((route) => route.json));
      for (const gateway of ["10.77.0.8", "10.77.0.9"])
        expect(shown.includes(gateway), `no route via ${gateway}: ${shown}`);
    },
  },
  {
    title: "priority, table and scope of a route are applied",
    source: "SPEC 1.1.0, ADD: routes[].priority, table, scope",
    reference: "v1.1.1 ends at specification 1.0.0",
    async run(lab) {
      const routes = [
        { dst: "192.0.2.0/24", gw: "10.77.0.9", priority: 77 },
        { dst: "198.18.0.0/15", gw: "10.77.0.9", table: 100 },
        { dst: "203.0.113.0/24", gw: "10.77.0.9", scope: 200 },
      ];
      const config = bridgeConfig(lab, { cniVersion: "1.1.0", ipam: hostLocal(lab, { routes }) });
      const { container } = await lab.attach(config, await lab.container());
      const main = await readRoutes(container.namespace);
      const other = await readRoutes(container.namespace, 4, "100");
      expectEqual(
        main.find((route) => route.dst === "192.0.2.0/24")?.metric,
        77,
        "metric of the first route",
      );
      expect(
        other.some((route) => route.dst === "198.18.0.0/15"),
        "the second route is not in table 100",
      );
      expectEqual(
        main.find((route) => route.dst === "203.0.113.0/24")?.scope,
        "site",
        "scope of the third route",
      );
    },
  },
  {
    title: "mtu and advmss of a route are applied",
    source: "SPEC 1.1.0, ADD: routes[].mtu, advmss",
    reference: "ignored",
    async run(lab) {
      const routes = [{ dst: "192.0.2.0/24", gw: "10.77.0.9", mtu: 1300, advmss: 1200 }];
      const config = bridgeConfig(lab, { cniVersion: "1.1.0", ipam: hostLocal(lab, { routes }) });
      const { container } = await lab.attach(config, await lab.container());
      const shown = JSON.stringify((await readRoutes(container.namespace)).map((route) => route.json));
      expect(/"mtu":1300/.test(shown) && /"advmss":1200/.test(shown), `the container's routes are ${shown}`);
    },
  },
];
