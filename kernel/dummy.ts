import type { IfName } from "#net/ifname.ts";
import { type MacAddress, parseMac } from "#net/mac.ts";
import { Errno } from "#netlink/errno.ts";
import { isNetlinkError } from "#netlink/error.ts";
import { newLink } from "#netlink/route/link.ts";
import { LinkExistsError, UnsupportedByKernelError } from "./link-error.ts";
import type { NetworkNamespace } from "./namespace.ts";

/**
 * Creates a link that swallows what is sent into it, down. Like `ip link add NAME address MAC type dummy`.
 * @throws {LinkExistsError} @throws {UnsupportedByKernelError} @throws {NetlinkError}
 */
export function createDummy(
  namespace: NetworkNamespace,
  { name, mac }: { readonly name: IfName; readonly mac?: MacAddress },
): void {
  try {
    namespace.transact([newLink({ name, kind: "dummy", mac })]);
  } catch (error) {
    if (isNetlinkError(error, Errno.EEXIST)) throw new LinkExistsError(name, namespace, error);
    if (isNetlinkError(error, Errno.EOPNOTSUPP)) {
      throw new UnsupportedByKernelError(`create dummy ${JSON.stringify(name)}`, "CONFIG_DUMMY", error);
    }
    throw error;
  }
}

/** No link can have it. */
const group = parseMac("01:00:00:00:00:00");

/**
 * Whether there are such links. Makes none: the kernel looks at the kind, and then refuses the MAC address
 * (dummy_validate in drivers/net/dummy.c).
 */
export function dummyIsSupported(namespace: NetworkNamespace): boolean {
  const [outcome] = namespace.attempt([newLink({ name: "netctl-probe", kind: "dummy", mac: group })]);
  return outcome?.errno !== Errno.EOPNOTSUPP;
}
