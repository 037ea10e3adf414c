import type { InterfaceAddress } from "#kernel/address.ts";
import type { LinkDetails } from "#kernel/link.ts";
import type { Route } from "#kernel/route.ts";
import { formatCidr } from "#net/cidr.ts";
import { formatIp, isLinkLocal } from "#net/ip.ts";
import type { Snapshot } from "./snapshot.ts";

/** What changed in the host's namespace and in the container's. */
export interface Change {
  readonly hostBefore: Snapshot;
  readonly hostAfter: Snapshot;
  readonly containerBefore: Snapshot;
  readonly containerAfter: Snapshot;
}

/** As it is named in the commands: the container's namespace has none that they could know. */
export const containerName = "CONTAINER";

/** Commands of iproute2 and sysctl that make the change, in an order in which they can be carried out. Pure. */
export function ipCommands(change: Change): readonly string[] {
  const { hostBefore, hostAfter, containerBefore, containerAfter } = change;
  const host = new Side(hostBefore, hostAfter, "ip");
  const container = new Side(containerBefore, containerAfter, `ip -n ${containerName}`);
  return [
    ...host.globalSysctls(),
    ...host.links.filter(({ kind }) => kind !== "veth").flatMap((link) => addLink(link, host, "")),
    ...host.links.filter(({ kind }) => kind === "veth").flatMap((link) => addVeth(link, host, container)),
    ...container.links
      .filter((link) => link.kind !== "veth" || !isEndOfPair(link, host))
      .flatMap((link) => addInContainer(link, host, container)),
    ...host.linkSysctls(),
    ...host.settings(),
    ...host.addresses(),
    ...container.globalSysctls(),
    ...container.linkSysctls(),
    ...container.settings(),
    ...container.addresses(),
    ...container.routes(),
    ...container.rules(),
    ...host.routes(),
    ...host.rules(),
    ...host.qdiscs(),
    ...container.qdiscs(),
  ];
}

/** One namespace, before and after. */
class Side {
  readonly #before: Snapshot;
  readonly #after: Snapshot;
  /** `ip`, or `ip -n NAME`. */
  readonly ip: string;
  /** Those that were not there before, in the order in which the kernel made them. */
  readonly links: readonly LinkDetails[];

  constructor(before: Snapshot, after: Snapshot, ip: string) {
    this.#before = before;
    this.#after = after;
    this.ip = ip;
    const known = new Set(before.links.map(({ ifindex, name }) => `${ifindex} ${name}`));
    this.links = after.links.filter(({ ifindex, name }) => !known.has(`${ifindex} ${name}`));
  }

  nameOf(ifindex: number | undefined): string | undefined {
    return this.#after.links.find((link) => link.ifindex === ifindex)?.name;
  }

  /** Links that left this namespace. */
  get departed(): readonly LinkDetails[] {
    return this.#before.links.filter(({ name }) => !this.#after.links.some((each) => each.name === name));
  }

  globalSysctls(): readonly string[] {
    return this.#sysctls((key) => !/\/conf\/(?!all\/)/.test(key));
  }

  /** Against what new links start with. */
  linkSysctls(): readonly string[] {
    const names = new Set(this.links.map(({ name }) => name));
    return this.#sysctls((key) => names.has(/\/conf\/([^/]+)\//.exec(key)?.[1] ?? ""));
  }

  #sysctls(isWanted: (key: string) => boolean): readonly string[] {
    return [...this.#after.sysctls].flatMap(([key, value]) => {
      if (!isWanted(key)) return [];
      const usual = key.replace(/\/conf\/[^/]+\//, "/conf/default/");
      const before = this.#before.sysctls.get(key) ?? this.#after.sysctls.get(usual);
      if (before === value) return [];
      return [`${this.#inside()}sysctl -w ${key}=${value}`];
    });
  }

  #inside(): string {
    return this.ip === "ip" ? "" : `ip netns exec ${containerName} `;
  }

  /** Master, flags and state of new links, and of those that were there and changed. */
  settings(): readonly string[] {
    return this.#after.links.flatMap((link) => {
      const before = this.#before.links.find(
        ({ ifindex, name }) => ifindex === link.ifindex && name === link.name,
      );
      const commands: string[] = [];
      const set = (words: string) => commands.push(`${this.ip} link set ${link.name} ${words}`);
      if (before !== undefined && before.mtu !== link.mtu) set(`mtu ${link.mtu}`);
      if (before !== undefined && before.mac !== link.mac && link.kind !== "bridge")
        set(`address ${link.mac ?? ""}`);
      const master = this.nameOf(link.master);
      if (link.master !== before?.master && master !== undefined) set(`master ${master}`);
      if (before !== undefined && before.bridge?.vlanFiltering !== link.bridge?.vlanFiltering) {
        set("type bridge vlan_filtering 1");
      }
      if ((link.flags & 0x100) !== 0 && ((before?.flags ?? 0) & 0x100) === 0) set("promisc on");
      if ((link.flags & 0x200) !== 0 && ((before?.flags ?? 0) & 0x200) === 0) set("allmulticast on");
      if (link.alias !== undefined && link.alias !== before?.alias) set(`alias '${link.alias}'`);
      if (link.bridgePort?.hairpin === true && before?.bridgePort?.hairpin !== true)
        commands.push(`bridge link set dev ${link.name} hairpin on`);
      if (link.bridgePort?.isolated === true && before?.bridgePort?.isolated !== true)
        commands.push(`bridge link set dev ${link.name} isolated on`);
      if (link.up && before?.up !== true) set("up");
      return commands;
    });
  }

  addresses(): readonly string[] {
    const known = new Set(this.#before.addresses.map(addressText));
    return this.#after.addresses.flatMap((each) => {
      const { address, ifindex } = each;
      // The kernel gives every link one of its own.
      const isAutomatic = address.address.family === 6 && isLinkLocal(address.address);
      if (isAutomatic || known.has(addressText(each))) return [];
      const options = address.address.family === 6 && (each.flags & nodad) !== 0 ? " nodad" : "";
      const prefix = (each.flags & noPrefixRoute) === 0 ? "" : " noprefixroute";
      const broadcast = each.broadcast === undefined ? "" : ` brd ${formatIp(each.broadcast)}`;
      return [
        `${this.ip} addr add ${formatCidr(address)}${broadcast} dev ${this.nameOf(ifindex) ?? ""}${options}${prefix}`,
      ];
    });
  }

  routes(): readonly string[] {
    const known = new Set(this.#before.routes.map(routeText));
    return this.#after.routes
      .filter((route) => !known.has(routeText(route)) && isMade(route))
      .sort(byReach)
      .map((route) => {
        const { destination, gateway, ifindex, table, metric, source, mtu, scope, family } = route;
        const isIpv6 = family === 6;
        const usualScope = gateway === undefined ? linkScope : 0;
        return [
          `${this.ip}${isIpv6 ? " -6" : ""} route add ${destination === undefined ? "default" : formatCidr(destination)}`,
          ...(gateway === undefined ? [] : [`via ${formatIp(gateway)}`]),
          ...(ifindex === undefined ? [] : [`dev ${this.nameOf(ifindex) ?? ""}`]),
          ...(source === undefined ? [] : [`src ${formatIp(source)}`]),
          ...(table === mainTable ? [] : [`table ${table}`]),
          ...(metric === undefined || (isIpv6 && metric === 1024) ? [] : [`metric ${metric}`]),
          ...(!isIpv6 && scope !== usualScope ? [`scope ${scope}`] : []),
          ...(mtu === undefined ? [] : [`mtu ${mtu}`]),
        ].join(" ");
      });
  }

  rules(): readonly string[] {
    const text = (rule: Snapshot["rules"][number]) =>
      JSON.stringify([rule.family, rule.priority, rule.from, rule.to, rule.table], bigints);
    const known = new Set(this.#before.rules.map(text));
    return this.#after.rules
      .filter((rule) => !known.has(text(rule)))
      .map(({ family, from, to, table, priority, l3mdev }) =>
        [
          `${this.ip}${family === 6 ? " -6" : ""} rule add`,
          ...(from === undefined ? [] : [`from ${formatCidr(from)}`]),
          ...(to === undefined ? [] : [`to ${formatCidr(to)}`]),
          ...(l3mdev === true ? ["l3mdev"] : [`table ${table ?? mainTable}`]),
          ...(priority === undefined ? [] : [`priority ${priority}`]),
        ].join(" "),
      );
  }

  qdiscs(): readonly string[] {
    const known = new Set(this.#before.qdiscs);
    return this.#after.qdiscs
      .filter((line) => !known.has(line))
      .flatMap((line) => {
        const [, kind = "", handle = "", device = "", place = "", rest = ""] =
          /^qdisc (\S+) (\S+) dev (\S+) (root|parent \S+|ingress \S+|clsact)\s*(.*)$/.exec(line) ?? [];
        if (kind === "" || unmade.includes(kind)) return [];
        const tc = this.ip === "ip" ? "tc" : `tc -n ${containerName}`;
        const words = rest
          .replace(/^refcnt \d+\s*/, "")
          .replace(/-+\s*$/, "")
          .trim();
        return [
          `${tc} qdisc add dev ${device} ${place} handle ${handle} ${kind}${words === "" ? "" : ` ${words}`}`,
        ];
      });
  }
}

/** IFA_F_NODAD, IFA_F_NOPREFIXROUTE: include/uapi/linux/if_addr.h */
const nodad = 0x02;
const noPrefixRoute = 0x200;
/** RT_TABLE_MAIN, RT_TABLE_LOCAL, RT_SCOPE_LINK, RTPROT_KERNEL, RTN_UNICAST: include/uapi/linux/rtnetlink.h */
const mainTable = 254;
const localTable = 255;
const linkScope = 253;
const byKernel = 2;
const unicast = 1;
/** Every link starts with one of these. */
const unmade = ["noqueue", "pfifo_fast", "fq_codel", "mq", "pfifo"];

const isMade = ({ table, protocol, type, destination }: Route) =>
  table !== localTable &&
  protocol !== byKernel &&
  type === unicast &&
  !(destination?.address.family === 6 && destination.address.value >> 120n === 0xffn);

/** A gateway has to be on a link before it can be one. */
function byReach(a: Route, b: Route): number {
  const rank = ({ gateway, destination }: Route) =>
    (gateway === undefined ? 0 : 1000) - (destination?.prefixLength ?? 0);
  return rank(a) - rank(b);
}

const bigints = (_key: string, value: unknown) => (typeof value === "bigint" ? String(value) : value);
const addressText = ({ ifindex, address }: InterfaceAddress) => `${ifindex} ${formatCidr(address)}`;
const routeText = ({ family, destination, gateway, ifindex, table, metric }: Route) =>
  JSON.stringify([family, destination, gateway, ifindex, table, metric], bigints);

function isEndOfPair(link: LinkDetails, host: Side): boolean {
  return host.links.some(({ kind, ifindex }) => kind === "veth" && ifindex === link.parent);
}

function addVeth(link: LinkDetails, host: Side, container: Side): readonly string[] {
  const inside = container.links.find(
    ({ kind, parent, ifindex }) => kind === "veth" && parent === link.ifindex && link.parent === ifindex,
  );
  const beside = host.links.find(({ kind, ifindex }) => kind === "veth" && ifindex === link.parent);
  const peer = inside ?? beside;
  if (peer === undefined) return [];
  // Once for the two.
  if (inside === undefined && peer.ifindex < link.ifindex) return [];
  const where = inside === undefined ? "" : ` netns ${containerName}`;
  return [
    `ip link add ${link.name} mtu ${link.mtu} type veth peer name ${peer.name} mtu ${peer.mtu}${where}`,
  ];
}

/** A link that is no end of a pair: made there, or lent by the host. */
function addInContainer(link: LinkDetails, host: Side, container: Side): readonly string[] {
  const lent = host.departed.find((each) => each.kind === link.kind && each.mac === link.mac);
  if (lent !== undefined) {
    return [
      `ip link set ${lent.name} netns ${containerName}`,
      ...(lent.name === link.name ? [] : [`${container.ip} link set ${lent.name} name ${link.name}`]),
    ];
  }
  const isOnHost = link.parentNamespaceId !== undefined;
  const parent = isOnHost ? host.nameOf(link.parent) : container.nameOf(link.parent);
  return addLink(link, isOnHost ? host : container, parent ?? "", isOnHost ? ` netns ${containerName}` : "");
}

function addLink(link: LinkDetails, side: Side, parentName: string, where = ""): readonly string[] {
  const { kind = "", name, mtu } = link;
  const parent = parentName || (kind === "bridge" ? "" : (side.nameOf(link.parent) ?? ""));
  const below = parent === "" ? "" : `link ${parent} `;
  const isTap = kind === "tun" && link.tun?.type === 2;
  if (isTap) {
    const { owner, group, multiQueue } = link.tun ?? {};
    const user = owner === undefined ? "" : ` user ${owner}`;
    return [
      `${side.ip} tuntap add mode tap name ${name}${user}${group === undefined ? "" : ` group ${group}`}${multiQueue === true ? " multi_queue" : ""}`,
    ];
  }
  return [`${side.ip} link add ${below}name ${name}${where} mtu ${mtu} type ${kind}${detailsOf(link)}`];
}

function detailsOf({ kind, bridge, vlan, macvlan, ipvlan, vrf }: LinkDetails): string {
  switch (kind) {
    case "bridge":
      return bridge?.vlanFiltering === true ? " vlan_filtering 1" : "";
    case "vlan":
      return ` id ${vlan?.id ?? 0}`;
    case "macvlan":
      return ` mode ${macvlanModes.get(macvlan?.mode ?? 0) ?? "bridge"}`;
    case "ipvlan":
      return ` mode ${["l2", "l3", "l3s"][ipvlan?.mode ?? 0] ?? "l2"}${ipvlanFlags.get(ipvlan?.flags ?? 0) ?? ""}`;
    case "vrf":
      return ` table ${vrf?.table ?? 0}`;
    case undefined:
    default:
      return "";
  }
}

/** MACVLAN_MODE_*, IPVLAN_F_*: include/uapi/linux/if_link.h */
const macvlanModes = new Map([
  [1, "private"],
  [2, "vepa"],
  [4, "bridge"],
  [8, "passthru"],
  [16, "source"],
]);
const ipvlanFlags = new Map([
  [1, " private"],
  [2, " vepa"],
]);
