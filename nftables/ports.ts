import { equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import type { ElementRef, HostSetId, Operation, OwnedSetId, PresentElement } from "./element.ts";
import type { PortRange, Protocol } from "./field.ts";
import type { Owner, OwnerTag } from "./owner.ts";

/** Ports of the host that lead to as many ports of a container. */
export interface PublishedPorts {
  readonly protocol: Protocol;
  /** Of the container's family; undefined: every address of the host. */
  readonly hostIp: IpAddress | undefined;
  readonly hostPorts: PortRange;
  readonly container: IpAddress;
  /** Where the first of `hostPorts` leads; the others follow. */
  readonly containerPort: number;
}

/** What one element takes up of the host. */
export interface PortClaim {
  readonly family: 4 | 6;
  readonly protocol: Protocol;
  readonly hostIp: IpAddress | undefined;
  readonly ports: PortRange;
}

export function claimOfPorts({ protocol, hostIp, hostPorts, container }: PublishedPorts): PortClaim {
  return { family: container.family, protocol, hostIp, ports: hostPorts };
}

/** A published port is somebody else's. Nothing was done. */
export class PortTakenError extends Error {
  /** What was asked for. */
  readonly claim: PortClaim;
  /** Undefined for an element that another hand has put there. */
  readonly owner: Owner | undefined;

  constructor(claim: PortClaim, present: PresentElement) {
    const { owner, comment } = present;
    const holder = owner
      ? `container ${JSON.stringify(owner.containerId)} (${owner.ifName}, network ${JSON.stringify(owner.network)})`
      : `an nftables element with the comment ${JSON.stringify(comment)}`;
    super(`Cannot publish ${formatClaim(claim)}: port is already allocated to ${holder}`);
    this.name = "PortTakenError";
    this.claim = claim;
    this.owner = owner;
  }
}

/** `0.0.0.0:8080/tcp`, `[::]:8000-8010/udp` */
export function formatClaim({ family, hostIp, protocol, ports }: PortClaim): string {
  const address = hostIp ? formatIp(hostIp) : family === 4 ? "0.0.0.0" : "::";
  const { first, last } = ports;
  const text = first === last ? String(first) : `${first}-${last}`;
  return `${family === 6 ? `[${address}]` : address}:${text}/${protocol}`;
}

/** The maps of one family: by port, or by address of the host and port; one element for each port, or for a range. */
export const portMaps = {
  4: { port: "ports4", range: "portRanges4", hostPort: "hostPorts4", hostRange: "hostPortRanges4" },
  6: { port: "ports6", range: "portRanges6", hostPort: "hostPorts6", hostRange: "hostPortRanges6" },
} as const;

export const publishedOn = { 4: "publishedOn4", 6: "publishedOn6" } as const satisfies Record<
  4 | 6,
  HostSetId
>;

/** Every set that holds elements of attachments with published ports. */
export const portSets = [
  ...Object.values(portMaps[4]),
  ...Object.values(portMaps[6]),
  "hairpin4",
  "hairpin6",
  "hairpinSelf4",
  "hairpinSelf6",
  "hairpinAll4",
  "hairpinAll6",
] as const satisfies readonly OwnedSetId[];

export type PortMapId = (typeof portMaps)[4 | 6][keyof (typeof portMaps)[4]];
export type PortOperation = Extract<Operation, { readonly set: PortMapId }>;

/**
 * A range costs the kernel more than a few single ports: with each commit that touches an interval map it copies the
 * whole map.
 */
const leastRangeLength = 32;

/** The elements that publish: one for each port, or one for a range that keeps its port numbers. */
export function portElements(published: PublishedPorts, owner: OwnerTag): readonly PortOperation[] {
  const { protocol, hostIp, hostPorts, container, containerPort } = published;
  const { family } = container;
  const { first, last } = hostPorts;
  const maps = portMaps[family];
  if (containerPort === first && last - first + 1 >= leastRangeLength) {
    const value = [container] as const;
    return hostIp
      ? [{ set: maps.hostRange, key: [hostIp, protocol, hostPorts], value, owner }]
      : [{ set: maps.range, key: [protocol, hostPorts], value, owner }];
  }
  return Array.from({ length: last - first + 1 }, (_, index): PortOperation => {
    const value = [container, containerPort + index] as const;
    return hostIp
      ? { set: maps.hostPort, key: [hostIp, protocol, first + index], value, owner }
      : { set: maps.port, key: [protocol, first + index], value, owner };
  });
}

/** The elements that DEL has to remove. */
export function portRefs(published: PublishedPorts): readonly ElementRef<PortMapId>[] {
  return portElements(published, "" as OwnerTag).map(
    ({ set, key }) => ({ set, key }) as ElementRef<PortMapId>,
  );
}

/** What an element of one of the eight maps takes up. */
export function claimOf({ set, key }: ElementRef<PortMapId>): PortClaim {
  const family = set.endsWith("4") ? 4 : 6;
  const words: readonly (IpAddress | Protocol | number | PortRange)[] = key;
  const last = words[words.length - 1];
  const ports =
    typeof last === "object" && "first" in last ? last : { first: Number(last), last: Number(last) };
  const [protocol, hostIp] = words.length === 3 ? [words[1], words[0]] : [words[0], undefined];
  return {
    family,
    protocol: protocol as Protocol,
    hostIp: hostIp as IpAddress | undefined,
    ports,
  };
}

/**
 * True if no two containers may have both: a port on every address is a port on each of them. Two addresses' ports
 * have nothing to do with each other.
 */
export function collide(a: PortClaim, b: PortClaim): boolean {
  return (
    a.family === b.family &&
    a.protocol === b.protocol &&
    a.ports.first <= b.ports.last &&
    b.ports.first <= a.ports.last &&
    (!a.hostIp || !b.hostIp || equalIp(a.hostIp, b.hostIp))
  );
}
