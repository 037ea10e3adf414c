import { equalIp, type IpAddress, ipToBytes } from "#net/ip.ts";
import { type ElementRef, formatElement, type Operation, type PresentElement } from "./element.ts";
import { protocols } from "./field.ts";
import type { Change, Nftables, View } from "./nftables.ts";
import { isOfContainer, type OwnerTag, sameOwner } from "./owner.ts";
import {
  claimOf,
  claimOfPorts,
  collide,
  type PortMapId,
  PortTakenError,
  type PublishedPorts,
  portElements,
  portMaps,
  publishedOn,
} from "./ports.ts";

/** An element that stands where one of ours is to be. */
interface Candidate extends PresentElement {
  readonly ref: ElementRef<PortMapId>;
}

/** From so many single look-ups on, reading whole maps is quicker. */
const maxLookups = 2048;

/**
 * Publishes ports, all of them in one transaction, unless one is taken: the kernel refuses a key with another value,
 * but knows nothing of a port that stands as part of a range, or on all addresses beside a single one. So everything
 * that could collide is looked up first, in a step with the change.
 *
 * What the owner itself has published before is replaced. A port that leads to the very same place belongs to an owner
 * that is gone, and is taken over.
 * @param containerId another attachment of the same container may keep its ports
 * @returns those that it keeps, which were not published
 * @throws {PortTakenError} nothing was done
 */
export async function publishPorts(
  nftables: Nftables,
  published: readonly PublishedPorts[],
  { owner, containerId }: { readonly owner: OwnerTag; readonly containerId: string },
): Promise<readonly PublishedPorts[]> {
  let kept: readonly PublishedPorts[] = [];
  if (published.length === 0) return kept;
  await nftables.change((view) => {
    const plan = planPublishing(view, published, { owner, containerId });
    kept = plan.kept;
    return plan.change;
  });
  return kept;
}

function planPublishing(
  view: View,
  published: readonly PublishedPorts[],
  { owner, containerId }: { readonly owner: OwnerTag; readonly containerId: string },
): { readonly change: Change; readonly kept: readonly PublishedPorts[] } {
  const candidates = findCandidates(view, published);
  const remove: Candidate["ref"][] = [];
  const add: Operation[] = [];
  const kept: PublishedPorts[] = [];
  for (const ports of published) {
    const claim = claimOfPorts(ports);
    const rivals = candidates.filter((candidate) => collide(claim, claimOf(candidate.ref)));
    const elements = portElements(ports, owner);
    const wanted = new Set(rivals.length > 0 ? elements.map(formatElement) : []);
    const foreign = rivals.filter((rival) => {
      return !sameOwner(rival.comment, owner) && !wanted.has(formatCandidate(rival));
    });
    const stranger = foreign.find((rival) => !rival.owner || !isOfContainer(rival.owner, containerId));
    if (stranger) throw new PortTakenError(claim, stranger);
    if (foreign.length > 0) {
      kept.push(ports);
      continue;
    }
    const present = new Set(
      rivals.filter((rival) => sameOwner(rival.comment, owner)).map((rival) => formatCandidate(rival)),
    );
    remove.push(
      ...rivals
        .filter((rival) => !(wanted.has(formatCandidate(rival)) && present.has(formatCandidate(rival))))
        .map(({ ref }) => ref),
    );
    add.push(
      ...(present.size === 0 ? elements : elements.filter((each) => !present.has(formatElement(each)))),
    );
    if (ports.hostIp) add.push(publishedOnElement(ports.hostIp));
  }
  // Shared, and so the only ones that may be there already: without them there would be nothing to commit.
  const isNeeded = add.some((operation) => operation.owner !== undefined) || remove.length > 0;
  return { change: isNeeded ? { remove: unique(remove), add } : { remove: [], add: [] }, kept };
}

/** All elements of published ports, as `publishPorts` adds them where nothing is in the way. */
export function publishedElements(
  published: readonly PublishedPorts[],
  owner: OwnerTag,
): readonly Operation[] {
  return published.flatMap((ports): readonly Operation[] => [
    ...portElements(ports, owner),
    ...(ports.hostIp ? [publishedOnElement(ports.hostIp)] : []),
  ]);
}

function publishedOnElement(hostIp: IpAddress): Operation {
  return { set: publishedOn[hostIp.family], key: [hostIp] };
}

function formatCandidate({ ref, value }: Candidate): string {
  return formatElement({ ...ref, value });
}

function unique(refs: readonly Candidate["ref"][]): readonly Candidate["ref"][] {
  return [...new Map(refs.map((ref) => [formatElement(ref), ref])).values()];
}

/** Every element that could collide with one of `published`; more than those where that is quicker. */
function findCandidates(view: View, published: readonly PublishedPorts[]): readonly Candidate[] {
  return ([4, 6] as const).flatMap((family) => {
    const own = published.filter(({ container }) => container.family === family);
    if (own.length === 0) return [];
    const addresses = hostAddresses(view, family, own);
    const count = own.reduce((sum, { hostPorts }) => sum + hostPorts.last - hostPorts.first + 1, 0);
    const lookups = count * 2 * (1 + addresses.length);
    return lookups > maxLookups ? listAll(view, family, own) : lookUpEach(view, family, { own, addresses });
  });
}

/** Those that ports are published on one by one. */
function hostAddresses(view: View, family: 4 | 6, own: readonly PublishedPorts[]): readonly IpAddress[] {
  const onAll = own.some(({ hostIp }) => !hostIp);
  const known = onAll ? view.list(publishedOn[family]).map(({ key: [address] }) => address) : [];
  const asked = own.flatMap(({ hostIp }) => hostIp ?? []);
  const all = [...known, ...asked];
  return [...new Map(all.map((address) => [ipToBytes(address).join("."), address])).values()];
}

function lookUpEach(
  view: View,
  family: 4 | 6,
  { own, addresses }: { readonly own: readonly PublishedPorts[]; readonly addresses: readonly IpAddress[] },
): readonly Candidate[] {
  const maps = portMaps[family];
  const refs = own.flatMap(({ protocol, hostIp, hostPorts: { first, last } }) =>
    Array.from({ length: last - first + 1 }, (_, index) => first + index).flatMap((port) => {
      const range = { first: port, last: port };
      return [
        { set: maps.port, key: [protocol, port] },
        { set: maps.range, key: [protocol, range] },
        ...(hostIp ? [hostIp] : addresses).flatMap((address) => [
          { set: maps.hostPort, key: [address, protocol, port] },
          { set: maps.hostRange, key: [address, protocol, range] },
        ]),
      ] as readonly ElementRef<PortMapId>[];
    }),
  );
  const found = view.read(refs);
  // A range is found once for each of its ports.
  const candidates = refs.flatMap(({ set }, index) => {
    const present = found[index];
    return present ? [candidateOf(set, present)] : [];
  });
  return [...new Map(candidates.map((each) => [formatElement(each.ref), each])).values()];
}

function listAll(view: View, family: 4 | 6, own: readonly PublishedPorts[]): readonly Candidate[] {
  const wanted = new Map(protocols.map((protocol) => [protocol, new Uint8Array(0x10000)]));
  for (const { protocol, hostPorts } of own)
    wanted.get(protocol)?.fill(1, hostPorts.first, hostPorts.last + 1);
  return Object.values(portMaps[family]).flatMap((set) =>
    view
      .list(set)
      .map((present) => candidateOf(set, present))
      .filter(({ ref }) => {
        const { protocol, ports } = claimOf(ref);
        return wanted
          .get(protocol)
          ?.subarray(ports.first, ports.last + 1)
          .includes(1);
      }),
  );
}

function candidateOf(set: PortMapId, present: PresentElement): Candidate {
  return { ...present, ref: { set, key: present.key } as ElementRef<PortMapId> };
}

/**
 * Forgets the addresses on which no port is published any more: nobody does so on DEL, which would have to look at all
 * ports.
 * @throws {NetlinkError}
 */
export async function releasePublishedOn(nftables: Nftables): Promise<void> {
  await nftables.change((view) => ({
    remove: ([4, 6] as const).flatMap((family) => {
      const known = view.list(publishedOn[family]);
      if (known.length === 0) return [];
      const { hostPort, hostRange } = portMaps[family];
      const inUse = [...view.list(hostPort), ...view.list(hostRange)].map(({ key: [address] }) => address);
      return known
        .filter(({ key: [address] }) => !inUse.some((used) => equalIp(used, address)))
        .map(({ key }) => ({ set: publishedOn[family], key }));
    }),
    add: [],
  }));
}
