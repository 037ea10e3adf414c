import type { IfName } from "#net/ifname.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import { firstLinkSummary, getLink, newLink } from "#netlink/route/link.ts";
import { newQdisc } from "#netlink/route/qdisc.ts";
import { expectLink, type Link } from "./link.ts";
import { LinkExistsError, UnsupportedByKernelError } from "./link-error.ts";
import type { NetworkNamespace } from "./namespace.ts";

/**
 * Creates a link through which packets that arrive elsewhere can be led, to be shaped at its root. It is up. Like `ip
 * link add NAME type ifb`.
 * @throws {LinkExistsError}
 * @throws {UnsupportedByKernelError}
 */
export function createIfb(
  namespace: NetworkNamespace,
  { name, mtu }: { readonly name: IfName; readonly mtu: number },
): Link {
  try {
    const [, messages = []] = namespace.transact([
      newLink({ name, kind: "ifb", mtu, up: true }),
      getLink(name, { statistics: false }),
    ]);
    return expectLink(firstLinkSummary(messages), name);
  } catch (error) {
    if (isNetlinkError(error, Errno.EEXIST)) throw new LinkExistsError(name, namespace, error);
    if (isNetlinkError(error, Errno.EOPNOTSUPP)) {
      throw new UnsupportedByKernelError("shape what arrives", "CONFIG_IFB", error);
    }
    throw error;
  }
}

/** ifindex of `lo`, in every namespace */
const loopbackIfindex = 1;

/**
 * Asks whether this kernel can shape, without making anything: each request is one that a kernel which knows the kind
 * refuses for what it lacks.
 * @throws {UnsupportedByKernelError}
 */
export function requireShaping(
  namespace: NetworkNamespace,
  needs: { readonly ifb: boolean; readonly kind: "tbf" | "htb" },
): void {
  const [qdisc, ifb] = namespace.attempt([
    // Without its options.
    newQdisc({ ifindex: loopbackIfindex, kind: needs.kind }),
    // Without a queue.
    ...(needs.ifb ? [newLink({ name: "netctl-probe", kind: "ifb", txQueues: 0 })] : []),
  ]);
  if (qdisc?.errno === Errno.ENOENT) {
    throw new UnsupportedByKernelError(
      "shape traffic",
      `CONFIG_NET_SCH_${needs.kind.toUpperCase()}`,
      qdisc.error,
    );
  }
  if (ifb?.errno === Errno.EOPNOTSUPP) {
    throw new UnsupportedByKernelError("shape what arrives", "CONFIG_IFB", ifb.error);
  }
}
