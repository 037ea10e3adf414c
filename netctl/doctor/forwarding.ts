import { forwards } from "#kernel/forwarding.ts";
import { bridgesIn, familiesOf } from "./context.ts";
import type { Check, Finding } from "./finding.ts";

const sysctls = { 4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding" } as const;

/** The first attachment turns it on; whoever turns it off again cuts off every container. */
export const forwarding: Check = {
  id: "forwarding",
  summary: "the host forwards packets of the families that the networks have",
  run(context) {
    const present = new Set(bridgesIn(context).map(({ name }) => name));
    const used = context.networks.filter(
      ({ bridges, notes }) => notes?.internal !== true && bridges.some((each) => present.has(each)),
    );
    return ([4, 6] as const).flatMap((family): readonly Finding[] => {
      const names = used.filter((each) => familiesOf(each).includes(family)).map(({ name }) => name);
      if (names.length === 0 || forwards(context.host, family)) return [];
      return [
        {
          id: "forwarding-off",
          severity: "error",
          subject: sysctls[family],
          evidence: `${sysctls[family]} is 0, so no packet leaves or reaches ${names.length === 1 ? "network" : "networks"} ${names.join(", ")} over IPv${family}`,
          remedy: `sysctl -w ${sysctls[family]}=1, and see what has turned it off: a file below /etc/sysctl.d?`,
        },
      ];
    });
  },
};
