import { bridgeNetfilter } from "./bridge-netfilter.ts";
import { bridgePorts } from "./bridge-ports.ts";
import { confOrder } from "./conf-order.ts";
import { conntrack } from "./conntrack.ts";
import { encryption } from "./encryption.ts";
import type { Check } from "./finding.ts";
import { foreignFirewall } from "./foreign-firewall.ts";
import { forwarding } from "./forwarding.ts";
import { mtu } from "./mtu.ts";
import { names } from "./names.ts";
import { neighbours } from "./neighbours.ts";
import { netd } from "./netd.ts";
import { overlay } from "./overlay.ts";
import { ownRules } from "./own-rules.ts";
import { reversePath } from "./reverse-path.ts";
import { staleLeases } from "./stale-leases.ts";
import { staleRecords } from "./stale-records.ts";

/** All that the doctor looks at, in the order in which it does. */
export const checks: readonly Check[] = [
  forwarding,
  foreignFirewall,
  ownRules,
  bridgeNetfilter,
  reversePath,
  bridgePorts,
  conntrack,
  neighbours,
  names,
  mtu,
  staleRecords,
  staleLeases,
  confOrder,
  encryption,
  netd,
  overlay,
];
