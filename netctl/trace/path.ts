import { type Link, listLinks, readLink } from "#kernel/link.ts";
import { readListeners } from "#kernel/listener.ts";
import { NetworkNamespace } from "#kernel/namespace.ts";
import { findRoute, type Route, RouteType } from "#kernel/route.ts";
import { readSysctl } from "#kernel/sysctl.ts";
import { equalIp, formatIp, type IpAddress, isUnspecified } from "#net/ip.ts";
import type { Nftables } from "#nftables/nftables.ts";
import { type Flow, type Hop, pass, stop } from "./hop.ts";
import { crossOverlay, type KnownCluster } from "./overlay.ts";
import type { Place } from "./place.ts";
import { findPublished } from "./published.ts";

export interface PathQuestion {
  readonly host: NetworkNamespace;
  readonly nftables: Nftables;
  readonly from: Place & { readonly netns: string };
  readonly to: Place;
  readonly address: IpAddress;
  readonly flow: Flow;
  /** What is known of this host's cluster, where it is in one. */
  readonly cluster?: KnownCluster;
}

/**
 * The way of a packet by what the kernel says of routes, links and published ports; what the rules of the forward hook do
 * to it is left to a probe. Ends at the first thing that stops it.
 */
export async function findPath(question: PathQuestion): Promise<readonly Hop[]> {
  const hops: Hop[] = [];
  const source = NetworkNamespace.open(question.from.netns);
  try {
    const isHost = source.ino === question.host.ino && source.dev === question.host.dev;
    const left = leave(source, question, hops);
    if (!left) return hops;
    if (isHost) return await throughHost(question, undefined, left.source, hops);
    const near = hostSide(question.host, left.link);
    if (!near) {
      hops.push({
        at: left.link.name,
        text: `${left.link.kind ?? "a device"} without an end in the host's namespace: it leaves this host's sight`,
        verdict: "unknown",
      });
      return hops;
    }
    const entry = enterHost(question.host, near, hops);
    return entry ? await throughHost(question, entry, left.source, hops) : hops;
  } finally {
    source.close();
  }
}

/** Out of the namespace where it begins. */
function leave(
  namespace: NetworkNamespace,
  { from, address }: PathQuestion,
  hops: Hop[],
): { readonly link: Link; readonly source?: IpAddress } | undefined {
  const answer = findRoute(namespace, { destination: address });
  if (!answer.found) {
    hops.push(
      stop(
        from.name,
        `route to ${formatIp(address)}: ${answer.reason}`,
        "is the container in a network that leads there? netctl inspect shows its routes; netctl network connect adds one",
      ),
    );
    return undefined;
  }
  const { route } = answer;
  const link = route.ifindex === undefined ? undefined : readLink(namespace, route.ifindex);
  if (!link) return undefined;
  hops.push(pass(from.name, `route to ${formatIp(address)}: ${describe(route, link)}`));
  if (!link.up || link.operState === "down" || link.operState === "lowerlayerdown") {
    hops.push(
      stop(
        from.name,
        `${link.name} is ${link.up ? "without carrier" : "down"}`,
        `ip link set ${link.name} up in that namespace; netctl repair where a record says so`,
      ),
    );
    return undefined;
  }
  return route.source ? { link, source: route.source } : { link };
}

/** The other end of a veth. */
function hostSide(host: NetworkNamespace, link: Link): Link | undefined {
  if (link.kind !== "veth" || link.parent === undefined) return undefined;
  const peer = readLink(host, link.parent);
  return peer?.kind === "veth" && peer.parent === link.ifindex ? peer : undefined;
}

/** @returns the interface by which the host sees the packet come in */
function enterHost(host: NetworkNamespace, near: Link, hops: Hop[]): Link | undefined {
  if (!near.up) {
    hops.push(stop(near.name, "the host's end is down", `ip link set ${near.name} up`));
    return undefined;
  }
  const master = near.master === undefined ? undefined : readLink(host, near.master);
  hops.push(
    pass("host", master ? `comes in by ${near.name}, a port of ${master.name}` : `comes in by ${near.name}`),
  );
  if (master && !master.up) {
    hops.push(stop(master.name, "the bridge is down", `ip link set ${master.name} up`));
    return undefined;
  }
  return master ?? near;
}

async function throughHost(
  question: PathQuestion,
  entry: Link | undefined,
  source: IpAddress | undefined,
  hops: Hop[],
): Promise<readonly Hop[]> {
  const { host, address, to, flow } = question;
  const local = findRoute(host, { destination: address });
  const isLocal = local.found && local.route.type === RouteType.local;
  let destination = address;
  let { port } = flow;
  if (isLocal) {
    const published =
      port === undefined ? undefined : await findPublished(question.nftables, flow.protocol, address, port);
    if (!published) {
      hops.push(pass("host", `${formatIp(address)} is the host's own`));
      if (port !== undefined)
        listens(
          host,
          "host",
          address,
          flow,
          hops,
          "publish the container's port: netctl sandbox create -p, and netctl port shows what is published",
        );
      return hops;
    }
    destination = published.address;
    port = published.port;
    hops.push(
      pass(
        "host",
        `published: ${formatIp(address)} port ${flow.port} leads to ${formatIp(destination)} port ${port} (${published.element})`,
      ),
    );
  }
  const links = listLinks(host);
  // A bridge hands over to its own ports without forwarding. Else, without, the kernel answers as if nobody had the address.
  const way = findRoute(host, { destination });
  const isNeighbour = way.found && way.route.ifindex === entry?.ifindex;
  if (entry && !isNeighbour && !forwards(host, destination.family, hops)) return hops;
  // From the host itself the first look was this one.
  const isKnown = entry === undefined && destination === address;
  const answer = findRoute(host, {
    destination,
    ...(entry && source && !isNeighbour ? { inputIfindex: entry.ifindex, source } : {}),
  });
  if (!answer.found) {
    hops.push(
      stop(
        "host",
        `route to ${formatIp(destination)}: ${answer.reason}`,
        "nobody has that address, or its host is not known: netctl inspect, netctl cluster status",
      ),
    );
    return hops;
  }
  const out = links.find((link) => link.ifindex === answer.route.ifindex);
  if (!out) return hops;
  if (entry && entry.ifindex === out.ifindex && !isLocal)
    hops.push(pass("host", `stays on ${out.name}: the bridge hands it over`));
  else {
    if (!isKnown)
      hops.push(pass("host", `route to ${formatIp(destination)}: ${describe(answer.route, out)}`));
    if (entry)
      hops.push({
        at: "host",
        text: `forwarded from ${entry.name} to ${out.name}; which rule decides, --probe tells`,
        verdict: "unknown",
      });
  }
  const across = question.cluster
    ? crossOverlay(host, question.cluster, { route: answer.route, out, address: destination })
    : [];
  hops.push(...across);
  if (across.length === 0) arrive(to, destination, port, flow, hops);
  return hops;
}

function forwards(host: NetworkNamespace, family: 4 | 6, hops: Hop[]): boolean {
  const key = family === 4 ? "net/ipv4/ip_forward" : "net/ipv6/conf/all/forwarding";
  if (readSysctl(host, key) === "1") return true;
  const name = key.replaceAll("/", ".");
  hops.push(stop("host", `${name} is 0`, `sysctl -w ${name}=1`));
  return false;
}

function arrive(to: Place, address: IpAddress, port: number | undefined, flow: Flow, hops: Hop[]): void {
  if (to.netns === undefined || !to.addresses.some((ip) => equalIp(ip, address))) {
    hops.push(pass("host", `goes on towards ${formatIp(address)}`));
    return;
  }
  const namespace = NetworkNamespace.open(to.netns);
  try {
    hops.push(pass(to.name, `${formatIp(address)} is its own`));
    if (port !== undefined)
      listens(
        namespace,
        to.name,
        address,
        { ...flow, port },
        hops,
        `start the program, or have it listen on ${formatIp(address)} or all addresses`,
      );
  } finally {
    namespace.close();
  }
}

function listens(
  namespace: NetworkNamespace,
  at: string,
  address: IpAddress,
  { protocol, port = 0 }: Flow,
  hops: Hop[],
  remedy: string,
): void {
  if (protocol === "icmp") return;
  const listeners = readListeners(namespace, [protocol]).filter((each) => each.port === port);
  const taker = listeners.find(
    (each) =>
      each.families.includes(address.family) &&
      (isUnspecified(each.address) || equalIp(each.address, address)),
  );
  if (taker) hops.push(pass(at, `a program listens on ${formatIp(taker.address)} ${protocol} port ${port}`));
  else {
    const [other] = listeners;
    const text = other
      ? `${protocol} port ${port} is listened to on ${formatIp(other.address)} alone`
      : `nobody listens on ${protocol} port ${port}`;
    hops.push(stop(at, text, remedy));
  }
}

function describe(route: Route, link: Link): string {
  return `${route.gateway ? `by ${formatIp(route.gateway)} ` : ""}through ${link.name}`;
}
