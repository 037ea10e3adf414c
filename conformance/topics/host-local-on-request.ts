import type { JsonObject } from "#cni/json.ts";
import type { Case } from "#conformance/case.ts";
import { bridgeConfig, hostLocal } from "#conformance/configs.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import type { Lab } from "#conformance/lab.ts";
import { askServer } from "#conformance/traffic.ts";
import { lease, request } from "./host-local-allocation.ts";

const source = "host-local README, requestRanges";
const reference = "does not know requestRanges";

const subnet = "10.77.0.0/24";
const ranges = [[{ subnet, rangeStart: "10.77.0.10", rangeEnd: "10.77.0.11" }]];
const requestRanges = [[{ subnet, rangeStart: "10.77.0.40", rangeEnd: "10.77.0.41" }]];
/** Two addresses for whoever comes, and two more for who asks for them. */
const sets = { ranges, requestRanges };
const asking = (ip: string): JsonObject => ({ runtimeConfig: { ips: [ip] } });

async function refused(lab: Lab, names: RegExp, extra: JsonObject = {}): Promise<void> {
  await lab.refuse(request(lab, sets, extra), names, { plugin: "host-local" });
}

export const onRequestCases: readonly Case[] = [
  {
    title: "requestRanges are for who asks: others find the set used up before them",
    source,
    reference,
    async run(lab) {
      const first = await lab.container();
      const given = [
        await lease(lab, request(lab, sets), first),
        await lease(lab, request(lab, sets), lab.sibling(first)),
      ];
      expectEqual(
        given.map((each) => each.ip()),
        ["10.77.0.10", "10.77.0.11"],
        "addresses",
      );
      await refused(lab, /10\.77\.0\./);
      const asked = await lease(lab, request(lab, sets, asking("10.77.0.40")), lab.sibling(first));
      expectEqual(asked.address().address, "10.77.0.40/24", "address asked for");
      (await asked.check()).expectSilence();
    },
  },
  {
    title: "an address of requestRanges is given once, and one of no range not at all",
    source,
    reference,
    async run(lab) {
      const first = await lab.container();
      const owner = await lease(lab, request(lab, sets, asking("10.77.0.41")), first);
      await refused(lab, /10\.77\.0\.41/, asking("10.77.0.41"));
      await refused(lab, /10\.77\.0\.42/, asking("10.77.0.42"));
      (await owner.del()).expectSilence();
      const heir = await lease(lab, request(lab, sets, asking("10.77.0.41")), lab.sibling(first));
      expectEqual(heir.ip(), "10.77.0.41", "address asked for");
    },
  },
  {
    title: "a container with an address of requestRanges is reached by its neighbour",
    source,
    reference,
    executables: ["bridge"],
    async run(lab) {
      const config = bridgeConfig(lab, { isGateway: true, ipam: hostLocal(lab, sets) });
      const one = await lab.attach(config, await lab.container());
      const two = await lab.attach({ ...config, ...asking("10.77.0.40") }, await lab.container());
      await lab.serve(two.container.namespace);
      expectEqual(await askServer(one.container.namespace, "tcp", "10.77.0.40"), one.ip(), "source seen");
      expect(one.ip() === "10.77.0.10", `the neighbour has ${one.ip()}`);
    },
  },
];
