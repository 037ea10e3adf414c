import { crashPoint, pretends } from "#machine/crash-point.ts";
import { sha256Hex } from "#machine/sha256.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";
import type { MacAddress } from "#net/mac.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import { IpvlanMode } from "#netlink/route/kind/ipvlan.ts";
import { MacvlanMode } from "#netlink/route/kind/macvlan.ts";
import { deleteLink, type NewLink, newLink, setLink } from "#netlink/route/link.ts";
import { readLink, removeLink, requireLink } from "./link.ts";
import { LinkExistsError, ParentRefusedError, UnsupportedByKernelError } from "./link-error.ts";
import type { NetworkNamespace } from "./namespace.ts";

export { IpvlanMode } from "#netlink/route/kind/ipvlan.ts";
export { MacvlanMode } from "#netlink/route/kind/macvlan.ts";

/** A link that sends and receives through another one, its parent. */
export interface ChildLinkSpec {
  readonly name: IfName;
  /** In the namespace that the call is about. */
  readonly parent: { readonly ifindex: number; readonly name: string };
  /**
   * Where it is born, under its final name; beside its parent if absent. Where an older kernel refuses that, since the
   * parent's namespace has a link of that name, it is renamed there while it is down.
   */
  readonly namespace?: NetworkNamespace;
  /** The parent's if absent. */
  readonly mtu?: number;
  /** Given together with the link itself, so that none is ever there without. Only beside its parent. */
  readonly alias?: string;
}

export type MacvlanModeName = Exclude<keyof typeof MacvlanMode, "source">;

/**
 * Creates a macvlan, down: an interface with a MAC address of its own on the parent's wire.
 * Like `ip link add link PARENT name NAME netns NS type macvlan mode MODE`.
 * @throws {LinkExistsError} @throws {ParentRefusedError} @throws {UnsupportedByKernelError} @throws {NetlinkError}
 */
export function createMacvlan(
  namespace: NetworkNamespace,
  spec: ChildLinkSpec & {
    readonly mode: MacvlanModeName;
    readonly mac?: MacAddress | undefined;
    /** The longest queue of broadcasts that wait to be copied; the kernel's default (1000) if absent. */
    readonly broadcastQueueLength?: number | undefined;
  },
): void {
  const { mode, mac, broadcastQueueLength } = spec;
  create(namespace, spec, {
    kind: "macvlan",
    mac,
    macvlan: { mode: MacvlanMode[mode], broadcastQueueLength },
  });
}

export type IpvlanModeName = keyof typeof IpvlanMode;

/** IPVLAN_F_*: include/uapi/linux/if_link.h */
export const IpvlanFlag = { bridge: 0, private: 1, vepa: 2 } as const;
export type IpvlanFlagName = keyof typeof IpvlanFlag;

/**
 * Creates an ipvlan, down: an interface with IP addresses of its own and the parent's MAC address.
 * Like `ip link add link PARENT name NAME netns NS type ipvlan mode MODE FLAG`.
 * @throws {LinkExistsError} @throws {ParentRefusedError} @throws {UnsupportedByKernelError} @throws {NetlinkError}
 */
export function createIpvlan(
  namespace: NetworkNamespace,
  spec: ChildLinkSpec & { readonly mode: IpvlanModeName; readonly flag?: IpvlanFlagName | undefined },
): void {
  create(namespace, spec, {
    kind: "ipvlan",
    ipvlan: {
      mode: IpvlanMode[spec.mode],
      ...(spec.flag === undefined ? {} : { flags: IpvlanFlag[spec.flag] }),
    },
  });
}

/**
 * Creates an 802.1Q interface, down: what is tagged with `id` on the parent's wire.
 * Like `ip link add link PARENT name NAME netns NS type vlan id ID`.
 * @throws {LinkExistsError} @throws {ParentRefusedError} @throws {UnsupportedByKernelError} @throws {NetlinkError}
 */
export function createVlan(namespace: NetworkNamespace, spec: ChildLinkSpec & { readonly id: number }): void {
  create(namespace, spec, { kind: "vlan", vlan: { id: spec.id } });
}

const options: Readonly<Record<string, string>> = {
  macvlan: "CONFIG_MACVLAN",
  ipvlan: "CONFIG_IPVLAN",
  vlan: "CONFIG_VLAN_8021Q",
};

function create(
  namespace: NetworkNamespace,
  { name, parent, namespace: target = namespace, mtu, alias }: ChildLinkSpec,
  own: Omit<NewLink, "name" | "parent" | "mtu" | "namespaceFd">,
): void {
  const { kind } = own;
  const namespaceFd = target === namespace ? undefined : target.fd;
  const link = { parent: parent.ifindex, mtu, namespaceFd, ...own };
  try {
    if (target !== namespace && pretends("older-kernel")) {
      const failure = createUnderOtherName(namespace, { target, name, link });
      if (failure === undefined) return;
      throw failure;
    }
    namespace.transact([
      newLink({ name, ...link }),
      ...(alias === undefined ? [] : [setLink(name, { alias })]),
    ]);
  } catch (refusal) {
    const error = isNameTaken(refusal, name, { namespace, target })
      ? createUnderOtherName(namespace, { target, name, link })
      : refusal;
    if (error === undefined) return;
    if (isNetlinkError(error, Errno.EEXIST) && readLink(target, name)) {
      throw new LinkExistsError(name, target, error);
    }
    if (isNetlinkError(error, Errno.EOPNOTSUPP)) {
      throw new UnsupportedByKernelError(
        `create ${kind} ${JSON.stringify(name)}`,
        options[kind] ?? kind,
        error,
      );
    }
    const reason = isNetlinkError(error) ? refusals[`${kind} ${error.code}`] : undefined;
    if (reason !== undefined) throw new ParentRefusedError(kind, parent.name, reason, error);
    throw error;
  }
}

/**
 * Older kernels (6.1, not 6.18) look for the name among the links of who asks as well, and refuse an eth0 for a container
 * on a host that has one: rtnl_newlink in net/core/rtnetlink.c.
 */
function isNameTaken(
  error: unknown,
  name: IfName,
  { namespace, target }: { readonly namespace: NetworkNamespace; readonly target: NetworkNamespace },
): boolean {
  if (target === namespace || !isNetlinkError(error, Errno.EEXIST)) return false;
  return readLink(target, name) === undefined && readLink(namespace, name) !== undefined;
}

/** Makes it under a name that nobody has, and gives it its own where it is. @returns what went wrong, and nothing is left then */
function createUnderOtherName(
  namespace: NetworkNamespace,
  work: {
    readonly target: NetworkNamespace;
    readonly name: IfName;
    readonly link: Omit<NewLink, "name">;
  },
): unknown {
  const { target, name, link } = work;
  const other = birthName(name);
  try {
    // Of an attempt that was killed between the two steps.
    if (readLink(target, other)) target.transact([deleteLink(other)]);
    namespace.transact([newLink({ name: other, ...link })]);
  } catch (error) {
    return error;
  }
  crashPoint("child-link-born");
  try {
    target.transact([setLink(requireLink(target, other).ifindex, { name })]);
    return undefined;
  } catch (error) {
    target.transact([deleteLink(other)]);
    return error;
  }
}

/** Follows from the final name, so that whoever finishes what was killed between the two steps knows it. */
function birthName(name: IfName): IfName {
  return parseIfName(`new-${sha256Hex(name).slice(0, 10)}`);
}

/**
 * Removes what was made for `name` on an older kernel and never got it, since its maker was killed. Nothing happens
 * where there is none. @throws {NetlinkError}
 */
export async function removeUnnamedChild(
  namespace: NetworkNamespace,
  { name, kind }: { readonly name: IfName; readonly kind: string },
): Promise<void> {
  const link = readLink(namespace, birthName(name));
  if (link?.kind === kind) await removeLink(namespace, link.ifindex);
}

/** What the kernel means where it says no more than an errno: drivers/net/{macvlan,ipvlan/ipvlan_main}.c, net/8021q. */
const refusals: Readonly<Record<string, string>> = {
  "macvlan EBUSY": "it is a port of a bridge or bond, or has ipvlans on it",
  "macvlan EINVAL":
    "it is no Ethernet interface, or a macvlan of mode passthru is to be on it or is, which has its parent for itself",
  "ipvlan EBUSY": "it is a port of a bridge or bond, or has macvlans on it",
  "ipvlan EINVAL": "it is no Ethernet interface, or has ipvlans on it that can't go together with this mode",
  "vlan EEXIST": "it has an interface for this VLAN already",
  "vlan EOPNOTSUPP": "its driver takes no VLANs",
};

/**
 * Creates a link, down, on which others can talk to each other while what leaves them goes nowhere: a dummy, or an ifb
 * where the kernel has none (it drops what nobody has redirected into it). Like `ip link add NAME type dummy`.
 * @throws {LinkExistsError} @throws {UnsupportedByKernelError} @throws {NetlinkError}
 */
export function createInternalLink(
  namespace: NetworkNamespace,
  { name, alias }: { readonly name: IfName; readonly alias: string },
): void {
  for (const kind of ["dummy", "ifb"]) {
    try {
      namespace.transact([newLink({ name, kind }), setLink(name, { alias })]);
      return;
    } catch (error) {
      if (isNetlinkError(error, Errno.EEXIST)) throw new LinkExistsError(name, namespace, error);
      if (!isNetlinkError(error, Errno.EOPNOTSUPP)) throw error;
      if (kind === "ifb") {
        throw new UnsupportedByKernelError(`create dummy ${JSON.stringify(name)}`, "CONFIG_DUMMY", error);
      }
    }
  }
}
