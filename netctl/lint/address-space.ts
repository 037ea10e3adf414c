import { type Cidr, formatCidr, hasHostBits, overlaps, parseCidr } from "#net/cidr.ts";
import { readRanges } from "#netctl/network/conflist.ts";
import type { UsedSubnet } from "#netctl/network/subnet-choice.ts";
import { below, type Found } from "./finding.ts";
import type { LintedPlugin, LintSubject } from "./subject.ts";

/** Address space of others, to look whether a file takes it. */
export interface AddressSpace {
  /** Of other networks. */
  readonly networks: readonly UsedSubnet[];
  /** What the host reaches otherwise. */
  readonly host: readonly UsedSubnet[];
}

/** Interfaces of these are on a wire of the host: that it has an address there as well is right. */
const onWire: readonly string[] = ["macvlan", "ipvlan", "vlan", "host-device"];

export function addressFindings({ plugins }: LintSubject, space: AddressSpace): readonly Found[] {
  return plugins.flatMap((plugin) =>
    subnetsOf(plugin).flatMap(({ cidr, path }) => [
      ...space.networks
        .filter((other) => overlaps(other.cidr, cidr))
        .map((other) => overlap("error", cidr, other, path, "both would give out the same addresses")),
      ...(onWire.includes(plugin.type) ? [] : distinct(space.host))
        .filter((other) => overlaps(other.cidr, cidr))
        .map((other) =>
          overlap("warning", cidr, other, path, "one of the two can't be reached from this host"),
        ),
      ...hostBits(cidr, path),
    ]),
  );
}

/** The host has an address and a route of one subnet. */
function distinct(used: readonly UsedSubnet[]): readonly UsedSubnet[] {
  return [...new Map(used.map((each) => [`${formatCidr(each.cidr)} ${each.by}`, each])).values()];
}

function overlap(
  severity: Found["severity"],
  cidr: Cidr,
  other: UsedSubnet,
  path: string,
  why: string,
): Found {
  return {
    id: severity === "error" ? "subnet-overlaps-network" : "subnet-overlaps-host",
    severity,
    path,
    evidence: `${formatCidr(cidr)} overlaps ${formatCidr(other.cidr)} of ${other.by}: ${why}`,
    remedy: "choose another subnet: netctl ipam ls shows pools and networks",
  };
}

function hostBits(cidr: Cidr, path: string): readonly Found[] {
  if (!hasHostBits(cidr)) return [];
  return [
    {
      id: "subnet-host-bits",
      severity: "warning",
      path,
      evidence: `${formatCidr(cidr)} is an address in a subnet: what comes behind the prefix is passed over, or refused`,
      remedy: "write the first address of the subnet",
    },
  ];
}

function subnetsOf({ json, ipam }: LintedPlugin): readonly { readonly cidr: Cidr; readonly path: string }[] {
  if (ipam === undefined) return [];
  const seen = new Set<string>();
  return readRanges([json]).flatMap(({ subnet }) => {
    if (seen.has(subnet)) return [];
    seen.add(subnet);
    try {
      return [{ cidr: parseCidr(subnet), path: pathOf(ipam.json, ipam.path, subnet) }];
    } catch {
      // The reading of the values says so.
      return [];
    }
  });
}

function pathOf(json: LintedPlugin["json"], base: string, subnet: string): string {
  const sets = json["ranges"];
  if (Array.isArray(sets)) {
    for (const [outer, set] of (sets as readonly unknown[]).entries()) {
      if (!Array.isArray(set)) continue;
      const inner = (set as readonly { readonly subnet?: unknown }[]).findIndex(
        (each) => each.subnet === subnet,
      );
      if (inner >= 0) return below(base, ["ranges", outer, inner, "subnet"]);
    }
  }
  return below(base, ["subnet"]);
}
