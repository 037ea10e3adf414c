import type { IfName } from "#net/ifname.ts";
import { equalIp, type IpAddress } from "#net/ip.ts";
import { type ElementRef, formatElement, type HostSetId, type Operation } from "./element.ts";
import type { Nftables } from "./nftables.ts";

/** The tunnel of one network, and the bridge that its containers on this host are behind. */
export interface TunnelRules {
  readonly tunnel: IfName;
  readonly bridge: IfName;
  /** Nothing is forwarded between the network and the world. */
  readonly internal: boolean;
  /** The tunnel is a port of the bridge: what goes between hosts stays on the bridge. */
  readonly stretched: boolean;
}

/** An underlay address of this host. */
export interface OwnAddress {
  readonly address: IpAddress;
  /** The device that has it, by which the other hosts' packets come; undefined for a bridge, which others may be behind. */
  readonly device: { readonly name: IfName; readonly ifindex: number } | undefined;
}

export interface OverlayRules {
  readonly udpPort: number;
  /** Underlay addresses of all hosts. */
  readonly vteps: readonly IpAddress[];
  /** Those of this one. */
  readonly own: readonly OwnAddress[];
  /** Devices that encrypt. */
  readonly encryptors: readonly IfName[];
  readonly tunnels: readonly TunnelRules[];
}

/** Sets in which everything is the overlay's. */
const ownSets = [
  "vxlanPorts",
  "vteps4",
  "vteps6",
  "vxlanSources4",
  "vxlanSources6",
  "encryptors",
  "tunnels",
  "networkWays",
] as const satisfies readonly HostSetId[];

/**
 * Makes the elements of the overlay those of `rules`, in one transaction, and does nothing where they are.
 * @param rules undefined where this host is in no cluster any more
 * @returns what was changed, in nft's words
 * @throws {NetlinkError} @throws {ProgramError}
 */
export async function applyOverlayRules(
  nftables: Nftables,
  rules: OverlayRules | undefined,
): Promise<readonly string[]> {
  const all = rules ? overlayElements(rules) : [];
  let words: readonly string[] = [];
  await nftables.change((view) => {
    const hindrances = distinct(all.flatMap(({ unless }) => unless ?? []));
    const hindered = view.read(hindrances);
    const refused = new Set(hindrances.filter((_, index) => hindered[index]).map(formatElement));
    const wanted = all
      .filter(({ unless }) => !unless || !refused.has(formatElement(unless)))
      .map(({ element }) => element);
    const names = new Set(wanted.map(formatElement));
    const present = ownSets.flatMap((set) =>
      view.list(set).map(({ key }): ElementRef => ({ set, key }) as ElementRef),
    );
    const there = new Set(present.map(formatElement));
    const stale = present.filter((ref) => !names.has(formatElement(ref)));
    const leaving = stale.flatMap((ref) =>
      ref.set === "tunnels" ? tunnelRefs(ref.key[0], view.list("sameBridge")) : [],
    );
    // Of sets that others have elements in as well: those are looked up, the own ones were listed.
    const shared = [...wanted.filter(({ set }) => !isOwn(set)), ...leaving];
    for (const [index, found] of view.read(shared).entries()) {
      const ref = shared[index];
      if (found && ref) there.add(formatElement(ref));
    }
    const add = wanted.filter((each) => !there.has(formatElement(each)));
    const remove = [...stale, ...leaving.filter((each) => there.has(formatElement(each)))];
    words = [
      ...add.map((each) => `add ${formatElement(each)}`),
      ...remove.map((each) => `remove ${formatElement(each)}`),
    ];
    return { add, remove };
  });
  return words;
}

/** An element, and what must not be there with it. */
interface Wanted {
  readonly element: Operation;
  readonly unless?: ElementRef;
}

function overlayElements({ udpPort, vteps, own, encryptors, tunnels }: OverlayRules): readonly Wanted[] {
  const always: readonly Operation[] = [
    { set: "vxlanPorts", key: [udpPort] },
    ...vteps.map((ip): Operation => ({ set: ip.family === 4 ? "vteps4" : "vteps6", key: [ip] })),
    ...encryptors.map((name): Operation => ({ set: "encryptors", key: [name] })),
    ...tunnels.flatMap(tunnelElements),
  ];
  return [
    ...always.map((element): Wanted => ({ element })),
    ...own.flatMap((end) => vteps.flatMap((from) => vxlanWay(from, end, udpPort))),
    ...tunnels.flatMap(stretchedWay),
  ];
}

/** None from itself, nor between two families, nor by a device that containers are behind: they could send as anybody. */
function vxlanWay(from: IpAddress, { address, device }: OwnAddress, udpPort: number): readonly Wanted[] {
  if (!device || from.family !== address.family || equalIp(from, address)) return [];
  const set = from.family === 4 ? "vxlanSources4" : "vxlanSources6";
  return [
    {
      element: { set, key: [device.ifindex, from, address, udpPort] },
      unless: { set: "bridges", key: [device.name] },
    },
  ];
}

/** Where bridged packets pass the host's rules at all, both hosts see this one coming from the bridge and going to it. */
function stretchedWay({ bridge, stretched }: TunnelRules): readonly Wanted[] {
  if (!stretched) return [];
  const key = [bridge, bridge] as const;
  return [{ element: { set: "networkWays", key }, unless: { set: "iccOff", key } }];
}

/** The tunnel is of the network as the bridge is: what goes between them stays within, and nothing else goes in or out. */
function tunnelElements({ tunnel, bridge, internal }: TunnelRules): readonly Operation[] {
  return [
    { set: "tunnels", key: [tunnel] },
    { set: "bridges", key: [tunnel] },
    { set: "isolatedNetworks", key: [tunnel] },
    { set: "sameBridge", key: [tunnel, bridge] },
    { set: "sameBridge", key: [bridge, tunnel] },
    { set: "networkWays", key: [tunnel, bridge] },
    { set: "networkWays", key: [bridge, tunnel] },
    ...(internal ? [{ set: "internal", key: [tunnel] } as const] : []),
  ];
}

/** Everything of a tunnel in sets that others have a share in; some of it may not be there. */
function tunnelRefs(
  tunnel: IfName,
  pairs: readonly { readonly key: readonly [IfName, IfName] }[],
): readonly ElementRef[] {
  return [
    { set: "bridges", key: [tunnel] },
    { set: "isolatedNetworks", key: [tunnel] },
    { set: "internal", key: [tunnel] },
    ...pairs
      .filter(({ key }) => key.includes(tunnel))
      .map(({ key }): ElementRef => ({ set: "sameBridge", key: [key[0], key[1]] })),
  ];
}

function isOwn(set: string): boolean {
  return ownSets.some((own) => own === set);
}

function distinct(refs: readonly ElementRef[]): readonly ElementRef[] {
  return [...new Map(refs.map((ref) => [formatElement(ref), ref])).values()];
}
