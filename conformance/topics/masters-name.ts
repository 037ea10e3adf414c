import type { Case } from "#conformance/case.ts";
import { expect, expectEqual } from "#conformance/failure.ts";
import { ping } from "#conformance/traffic.ts";
import { expectNone, inside, uplink, wireConfig } from "./child-links.ts";

/** Host and container each have an `eth0`, and one is the other's master. */
export function mastersName(type: "macvlan" | "ipvlan"): Case {
  return {
    title: "the container's interface may have the master's name",
    source: `${type} README, master; linux 6.1 looks for the name in both namespaces`,
    ...(type === "ipvlan" && { needs: ["ipvlan"] }),
    async run(lab) {
      const outside = await lab.outside();
      await lab.host.ip(`link set ${uplink} down`);
      await lab.host.ip(`link set ${uplink} name eth0`);
      await lab.host.ip("link set eth0 up");
      await lab.rebase();
      const attachment = await lab.attach(wireConfig(type, lab, { master: "eth0" }), await lab.container());
      const { namespace } = attachment.container;
      expectEqual((await inside(namespace)).kind, type, "kind of eth0");
      expect(await ping(namespace, outside.ip4), "no answer from the wire");
      (await attachment.delWithResult()).expectSilence();
      await expectNone(namespace, "eth0");
    },
  };
}
