import { MacvlanMode } from "#kernel/child-link.ts";
import { readLinkDetails } from "#kernel/link.ts";
import type { Checking } from "#plugins/interface-driver.ts";
import { interfaceProblems } from "#plugins/interface-problems.ts";
import { describeIpConfiguration } from "#plugins/ip-configuration.ts";
import { parentProblems, planParent } from "#plugins/parent-link.ts";
import type { MacvlanConfig } from "./config.ts";
import { hostAccessProblems } from "./host-access.ts";
import type { Made } from "./made.ts";

/** What of an attachment is not as ADD has made it. */
export function problems(work: Checking<MacvlanConfig, Made>): readonly string[] {
  const { config, key, ifName, container, host, made, checked } = work;
  const { ipamType } = config;
  const configuration =
    ipamType === undefined
      ? undefined
      : describeIpConfiguration(checked.own, { interfaceIndex: 0, ipamType });
  const { link, problems: differences } = interfaceProblems(container, {
    name: ifName,
    kind: "macvlan",
    up: true,
    mac: checked.inside?.mac,
    addresses: configuration?.addresses ?? [],
    routes: configuration?.kernelRoutes ?? [],
  });
  const parent = made?.parent ?? planParent(config.parent, { host, container, network: key.network });
  return [
    ...differences,
    ...(link?.kind === "macvlan" ? modeProblems(work) : []),
    ...parentProblems(parent, link, { host, container, network: key.network }),
    ...(made?.hostAccess ? hostAccessProblems(made.hostAccess, host.kernel.namespace) : []),
  ];
}

function modeProblems({ config, ifName, container }: Checking<MacvlanConfig, Made>): readonly string[] {
  const mode = readLinkDetails(container, ifName)?.macvlan?.mode;
  if (mode === MacvlanMode[config.mode]) return [];
  const [name = String(mode)] = Object.entries(MacvlanMode).find(([, number]) => number === mode) ?? [];
  return [`container interface ${JSON.stringify(ifName)} has mode ${name} instead of ${config.mode}`];
}
