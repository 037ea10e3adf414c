import { CniError, ErrorCode } from "#cni/error.ts";
import type { CniResult } from "#cni/result.ts";
import type { AttachmentKey } from "#journal/record.ts";
import type { Cidr } from "#net/cidr.ts";
import { equalIp, formatIp, type IpAddress, isUnspecified } from "#net/ip.ts";
import type { PublishedPorts } from "#nftables/ports.ts";
import type { RoutedPorts } from "#nftables/routed-ports.ts";
import type { PortMapping, PortmapConfig, SetMark } from "./config.ts";

/** Everything that one ADD makes, as a value. It follows from the request alone. */
export interface Attachment {
  readonly key: AttachmentKey;
  readonly published: readonly PublishedPorts[];
  /** Ports that are opened at the container's own address instead, where its network is routed to. */
  readonly routed: readonly RoutedPorts[];
  /** Addresses of the container that the host's own source addresses are needed for; empty without `snat`. */
  readonly hairpin: readonly Cidr[];
  readonly masqueradeAll: boolean;
  readonly backend: PortmapConfig["backend"];
  readonly conditions: PortmapConfig["conditions"];
  readonly setMark: SetMark;
}

export function describeAttachment(input: {
  readonly config: PortmapConfig;
  readonly key: AttachmentKey;
  readonly prevResult: CniResult;
  /** Families in which the network is routed to. */
  readonly routedFamilies: readonly (4 | 6)[];
}): Attachment {
  const { config, key, prevResult, routedFamilies } = input;
  const addresses = containerAddresses(prevResult, key.ifName);
  const all = publishedPorts(config.mappings, addresses);
  const isRouted = ({ container }: PublishedPorts) => routedFamilies.includes(container.family);
  const published = all.filter((ports) => !isRouted(ports));
  const routed = all.filter(isRouted).map(routedPorts);
  for (const { container } of routed) refuseConditions(config.conditions[container.family], container);
  return {
    key,
    published,
    routed,
    hairpin: config.snat
      ? addresses.filter(({ address }) => published.some(({ container }) => equalIp(container, address)))
      : [],
    masqueradeAll: config.snat && config.masqueradeAll,
    backend: config.backend,
    conditions: config.conditions,
    setMark: config.setMark,
  };
}

function routedPorts({ protocol, hostPorts, container, containerPort }: PublishedPorts): RoutedPorts {
  const last = containerPort + hostPorts.last - hostPorts.first;
  return { container, protocol, ports: { first: containerPort, last } };
}

/** @throws {CniError} 7: what is not translated has no rule that could have conditions */
function refuseConditions(conditions: readonly string[], { family }: IpAddress): void {
  if (conditions.length === 0) return;
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    `Cannot use portmap configuration: "conditionsV${family}" ${JSON.stringify(conditions)}: the network is routed to, and its ports are not translated`,
  );
}

/**
 * The first address of each family that the interface has. One that says no interface may be its own; one that is
 * another's, or the host's, is not.
 */
export function containerAddresses({ ips, interfaces }: CniResult, ifName: string): readonly Cidr[] {
  const own = ips.filter((ip) => {
    const of = ip.interface === undefined ? undefined : interfaces[ip.interface];
    return !of || (of.name === ifName && of.sandbox);
  });
  return ([4, 6] as const).flatMap((family) => {
    return own.find(({ address }) => address.address.family === family)?.address ?? [];
  });
}

/**
 * With every mapping for each family that the container has and the mapping is meant for; what follows on, joined.
 * @throws {CniError} 7 for mappings that contradict each other
 */
export function publishedPorts(
  mappings: readonly PortMapping[],
  addresses: readonly Cidr[],
): readonly PublishedPorts[] {
  refuseContradictions(mappings);
  return addresses.flatMap(({ address }) =>
    joined(
      mappings
        .filter(({ hostIp }) => !hostIp || hostIp.family === address.family)
        .map((mapping) => publish(mapping, address)),
    ),
  );
}

/** @throws {CniError} 7 for one port of the host that is to lead to two of the container */
function refuseContradictions(mappings: readonly PortMapping[]): void {
  const known = new Map<string, PortMapping>();
  for (const mapping of mappings) {
    const { protocol, hostIp, hostPort, containerPort } = mapping;
    const where = `${hostIp ? formatIp(hostIp) : "*"} ${protocol} ${hostPort}`;
    const before = known.get(where);
    if (before && before.containerPort !== containerPort) {
      throw new CniError(
        ErrorCode.InvalidNetworkConfig,
        `Cannot use portmap configuration: "portMappings" lead ${hostIp ? `${formatIp(hostIp)} ` : ""}port ${hostPort}/${protocol} to both ${before.containerPort} and ${containerPort}`,
      );
    }
    known.set(where, mapping);
  }
}

function publish(
  { protocol, hostIp, hostPort, containerPort }: PortMapping,
  container: IpAddress,
): PublishedPorts {
  return {
    protocol,
    hostIp: hostIp && isUnspecified(hostIp) ? undefined : hostIp,
    hostPorts: { first: hostPort, last: hostPort },
    container,
    containerPort,
  };
}

/** Neighbouring ports that lead to neighbouring ports, as a range was before it was written out. Each port once. */
function joined(all: readonly PublishedPorts[]): readonly PublishedPorts[] {
  const where = ({ protocol, hostIp }: PublishedPorts) => `${protocol} ${hostIp ? formatIp(hostIp) : ""}`;
  const sorted = all
    .map((ports) => ({ ports, where: where(ports) }))
    .sort((a, b) =>
      a.where === b.where
        ? a.ports.hostPorts.first - b.ports.hostPorts.first || a.ports.containerPort - b.ports.containerPort
        : a.where < b.where
          ? -1
          : 1,
    );
  const result: { where: string; ports: PublishedPorts }[] = [];
  for (const next of sorted) {
    const before = result.at(-1);
    if (!before || before.where !== next.where || !follows(before.ports, next.ports)) {
      result.push(next);
      continue;
    }
    const { first } = before.ports.hostPorts;
    before.ports = { ...before.ports, hostPorts: { first, last: next.ports.hostPorts.last } };
  }
  return result.map(({ ports }) => ports);
}

/** True for the port after a range's last one, and for that one again. */
function follows({ hostPorts, containerPort }: PublishedPorts, next: PublishedPorts): boolean {
  const { first } = next.hostPorts;
  return first <= hostPorts.last + 1 && next.containerPort - first === containerPort - hostPorts.first;
}
