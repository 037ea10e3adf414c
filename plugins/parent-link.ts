import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import { goObject } from "#cni/schema.ts";
import { emptyAsAbsent, ifName, int } from "#cni/schema-values.ts";
import { createInternalLink, createVlan } from "#kernel/child-link.ts";
import { readDefaultRouteLink } from "#kernel/default-route.ts";
import { type Link, readLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import { writeSysctls } from "#kernel/sysctl.ts";
import type { Undo } from "#kernel/undo.ts";
import { sha256Hex } from "#machine/sha256.ts";
import { type IfName, ifNameProblem, parseIfName } from "#net/ifname.ts";
import type { PluginHost } from "./context.ts";
import { ensureSharedLink, isShared, releaseSharedLink, sharedLinkAlias } from "./shared-link.ts";
import type { User } from "./users.ts";

/** Fields by which macvlan and ipvlan are told what to stand on, for their schemas. */
export const parentFields = {
  master: emptyAsAbsent(ifName),
  linkInContainer: v.optional(v.boolean(), false),
  internal: v.optional(v.boolean(), false),
};

export interface ParentConfig {
  /** Absent: the device of the default route, or of an internal network the network's own. */
  readonly master?: IfName | undefined;
  /** The master is in the container's namespace. */
  readonly linkInContainer: boolean;
  /** The network has no way out: its master is a link of its own that leads nowhere. */
  readonly internal: boolean;
}

/** @throws {CniError} 7 for what contradicts itself */
export function parseParent(
  raw: {
    readonly master?: IfName | undefined;
    readonly linkInContainer: boolean;
    readonly internal: boolean;
  },
  what: string,
): ParentConfig {
  const { master, linkInContainer, internal } = raw;
  const refuse = (problem: string) => {
    throw new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use ${what}: ${problem}`);
  };
  if (internal && master !== undefined) {
    refuse(`"master" ${JSON.stringify(master)}: an "internal" network has a master of its own`);
  }
  if (internal && linkInContainer) refuse('"internal" and "linkInContainer" are both true');
  return { ...(master === undefined ? {} : { master }), linkInContainer, internal };
}

/** The link that an attachment stands on. */
export interface Parent {
  readonly name: IfName;
  readonly inContainer: boolean;
  /** How it is made, where no operator has made it; it goes with its last user. */
  readonly origin?: ParentOrigin;
}

export type ParentOrigin =
  /** The 802.1Q interface `eth0.10`. */
  | { readonly kind: "vlan"; readonly under: IfName; readonly id: number }
  /** A network's own, which leads nowhere. */
  | { readonly kind: "internal" };

/** For the schema of what the journal keeps. */
export const parentSchema = goObject({
  name: ifName,
  inContainer: v.boolean(),
  origin: v.exactOptional(
    v.union([
      goObject({ kind: v.literal("vlan"), under: ifName, id: int() }),
      goObject({ kind: v.literal("internal") }),
    ]),
  ),
});

export interface ParentSurroundings {
  readonly host: PluginHost;
  readonly container: NetworkNamespace;
  readonly network: string;
}

/**
 * Finds out what an attachment is to stand on, and refuses what can't be. Changes nothing.
 * @throws {CniError} 7
 */
export function planParent(config: ParentConfig, surroundings: ParentSurroundings): Parent {
  const { host, container, network } = surroundings;
  if (config.internal) {
    return { name: internalParentName(network), inContainer: false, origin: { kind: "internal" } };
  }
  const inContainer = config.linkInContainer;
  const namespace = inContainer ? container : host.kernel.namespace;
  if (config.master === undefined) {
    const link = readDefaultRouteLink(namespace);
    if (!link) throw invalid("no default route interface found");
    return { name: link.name as IfName, inContainer };
  }
  const present = readLink(namespace, config.master);
  if (present) {
    refuseLoopback(present);
    const origin = inContainer || !isShared(present) ? undefined : vlanOrigin(config.master);
    return { name: config.master, inContainer, ...(origin ? { origin } : {}) };
  }
  const origin = inContainer ? undefined : vlanOrigin(config.master);
  const under = origin && readLink(namespace, origin.under);
  if (!origin || !under) {
    const where = inContainer ? " in the container" : "";
    throw invalid(`failed to lookup master ${JSON.stringify(config.master)}${where}: Link not found`);
  }
  refuseLoopback(under);
  return { name: config.master, inContainer, origin };
}

function invalid(message: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, message);
}

/** ARPHRD_LOOPBACK: include/uapi/linux/if_arp.h */
const loopbackType = 772;

function refuseLoopback(link: Link): void {
  if (link.type === loopbackType)
    throw invalid(`"master" ${JSON.stringify(link.name)}: is a loopback interface`);
}

/** What a name such as `eth0.10` asks for: one dot, and a VLAN ID of 1 to 4094 behind it. */
function vlanOrigin(name: IfName): (ParentOrigin & { readonly kind: "vlan" }) | undefined {
  const [, under = "", digits = ""] = /^([^.]+)\.([1-9][0-9]{0,3})$/.exec(name) ?? [];
  const id = Number(digits);
  if (ifNameProblem(under) || id < 1 || id > 4094) return undefined;
  return { kind: "vlan", under: parseIfName(under), id };
}

/** `dm-` and 12 hex digits, as Docker calls it. */
export function internalParentName(network: string): IfName {
  return parseIfName(`dm-${sha256Hex(JSON.stringify(["internal parent", network])).slice(0, 12)}`);
}

/**
 * The link itself, made if it has to be.
 * @throws {CniError} 11 where it is down, since nothing on it could be set up
 */
export async function ensureParent(
  parent: Parent,
  work: ParentSurroundings & { readonly user: User; readonly undo: Undo },
): Promise<Link> {
  const { host, container, user, undo } = work;
  const { origin, name } = parent;
  const namespace = parent.inContainer ? container : host.kernel.namespace;
  if (origin) undo.push(`link ${JSON.stringify(name)}`, () => releaseSharedLink(host, name, user));
  const link = origin
    ? await ensureSharedLink(host, name, user, (inHost) => make(inHost, name, origin))
    : readLink(namespace, name);
  if (!link) throw invalid(`failed to lookup master ${JSON.stringify(name)}: Link not found`);
  if (!link.up) {
    throw new CniError(ErrorCode.TryAgainLater, `Cannot use master ${JSON.stringify(name)}: it is down`, {
      details: `ip link set ${name} up`,
    });
  }
  return link;
}

function make(namespace: NetworkNamespace, name: IfName, origin: ParentOrigin): void {
  if (origin.kind === "internal") {
    createInternalLink(namespace, { name, alias: sharedLinkAlias });
    return;
  }
  const under = readLink(namespace, origin.under);
  if (!under) throw invalid(`failed to lookup master ${JSON.stringify(origin.under)}: Link not found`);
  if (!under.up) {
    throw new CniError(
      ErrorCode.TryAgainLater,
      `Cannot use master ${JSON.stringify(origin.under)}: it is down`,
      {
        details: `ip link set ${origin.under} up`,
      },
    );
  }
  createVlan(namespace, { name, parent: under, id: origin.id, alias: sharedLinkAlias });
  keepHostOut(namespace, name);
}

/**
 * The host makes the link for its containers and is not to become a part of the network behind it: it takes no address
 * or route from routers there, and does not say which addresses it has elsewhere.
 */
function keepHostOut(namespace: NetworkNamespace, name: IfName): void {
  writeSysctls(namespace, [
    { key: `net/ipv6/conf/${name}/accept_ra`, value: 0, optional: true },
    { key: `net/ipv6/conf/${name}/autoconf`, value: 0, optional: true },
    { key: `net/ipv4/conf/${name}/arp_ignore`, value: 1, optional: true },
  ]);
}

/** The attachment stands on it no more. */
export async function releaseParent(parent: Parent, host: PluginHost, user: User): Promise<void> {
  if (parent.origin) await releaseSharedLink(host, parent.name, user);
}

/** What is wrong with it under an interface of a container, in words. */
export function parentProblems(
  parent: Parent,
  child: Link | undefined,
  { host, container }: ParentSurroundings,
): readonly string[] {
  const link = readLink(parent.inContainer ? container : host.kernel.namespace, parent.name);
  const name = JSON.stringify(parent.name);
  if (!link) return [`master ${name} is gone`];
  const problems = link.up ? [] : [`master ${name} is down`];
  if (child && child.parent !== link.ifindex) {
    problems.push(`container interface ${JSON.stringify(child.name)} is not on master ${name}`);
  }
  return problems;
}

/** What STATUS has to say of it. @throws {CniError} 50 */
export function parentStatus(config: ParentConfig, host: PluginHost): void {
  // Only a container's own namespace could tell.
  if (config.linkInContainer || config.internal) return;
  const { namespace } = host.kernel;
  try {
    const parent = planParent(config, { host, container: namespace, network: "" });
    const name =
      parent.origin?.kind === "vlan" && !readLink(namespace, parent.name) ? parent.origin.under : parent.name;
    if (readLink(namespace, name)?.up === false) {
      throw new CniError(ErrorCode.PluginNotAvailable, `master ${JSON.stringify(name)} is down`);
    }
  } catch (error) {
    if (!(error instanceof CniError)) throw error;
    throw new CniError(ErrorCode.PluginNotAvailable, error.message, { cause: error });
  }
}
