import type { CniResult } from "#cni/result.ts";
import { readAddresses } from "#kernel/address.ts";
import { forwards } from "#kernel/forwarding.ts";
import { type Link, type LinkRef, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { readRoutes } from "#kernel/route.ts";
import { equalCidr, formatCidr } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import type { Made } from "./made.ts";
import type { Routing } from "./routing.ts";

/** What is not as ADD has made it on the host's side of the link, one sentence each. */
export function hostEndProblems(
  namespace: NetworkNamespace,
  expected: {
    /** Absent for an attachment of the reference plugin, which draws its names. */
    readonly made: Made | undefined;
    readonly prevResult: CniResult;
    readonly inside: Link | undefined;
    readonly routing: Routing;
  },
): readonly string[] {
  const { made, inside, routing } = expected;
  const name = made?.hostVeth ?? hostVethOf(expected.prevResult);
  const ref: LinkRef | undefined = name ?? inside?.parent;
  const link = ref === undefined ? undefined : readLink(namespace, ref);
  const quoted = JSON.stringify(link?.name ?? name ?? "");
  if (link?.kind !== "veth") return [`the host's end of the veth, ${quoted}, is gone`];
  const problems: string[] = [];
  if (inside && (link.parent !== inside.ifindex || inside.parent !== link.ifindex)) {
    problems.push(`veth ${quoted} does not lead to ${JSON.stringify(inside.name)}`);
  }
  if (!link.up) problems.push(`veth ${quoted} is down`);
  if (made && link.mac !== made.hostMac) {
    problems.push(`veth ${quoted} has MAC address ${link.mac} instead of ${made.hostMac}`);
  }
  const addresses = readAddresses(namespace, link.ifindex);
  for (const gateway of routing.host.addresses) {
    if (addresses.some(({ address }) => equalCidr(address, gateway))) continue;
    problems.push(`veth ${quoted} is without the gateway address ${formatCidr(gateway)}`);
  }
  const routes = readRoutes(namespace, link.ifindex);
  for (const wanted of routing.host.destinations) {
    if (routes.some(({ destination }) => destination && equalCidr(destination, wanted))) continue;
    problems.push(`the host's route ${formatCidr(wanted)} by ${quoted} is gone`);
  }
  for (const family of routing.families) {
    if (!forwards(namespace, family)) problems.push(`the host does not forward IPv${family}`);
  }
  return problems;
}

/** The veth's end in the host, as a result names it: the one interface that is in no sandbox. */
export function hostVethOf({ interfaces }: CniResult): IfName | undefined {
  const outside = interfaces.filter(({ sandbox }) => !sandbox);
  return outside.length === 1 ? (outside[0]?.name as IfName) : undefined;
}
