import { bridgesIn } from "./context.ts";
import type { Check, Finding } from "./finding.ts";

/** BR_MAX_PORTS, less port 0: net/bridge/br_private.h */
const maxPorts = 1023;
const nearly = 0.9;

/** The kernel has port numbers of ten bits: the next ADD fails with EXFULL. */
export const bridgePorts: Check = {
  id: "bridge-ports",
  summary: `bridges with nearly ${maxPorts} ports, the most that the kernel takes`,
  run(context) {
    return bridgesIn(context).flatMap(({ name, ifindex }): readonly Finding[] => {
      const count = context.links.filter(({ master }) => master === ifindex).length;
      if (count < nearly * maxPorts) return [];
      return [
        {
          id: "bridge-ports-exhausted",
          severity: count >= maxPorts ? "error" : "warning",
          subject: name,
          evidence: `bridge ${name} has ${count} ports of at most ${maxPorts}`,
          remedy: "attach further containers to another network, on a bridge of its own",
        },
      ];
    });
  },
};
