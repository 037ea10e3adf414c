import { native } from "#native/addon.ts";
import type { IfName } from "#net/ifname.ts";
import type { MacAddress } from "#net/mac.ts";
import { setLink } from "#netlink/route/link.ts";
import { type Device, readDevice } from "./device.ts";
import { LinkExistsError, UnsupportedByKernelError } from "./link-error.ts";
import type { NetworkNamespace } from "./namespace.ts";

export interface TapSpec {
  readonly name: IfName;
  /** Several processes, or threads of one, may each have a queue. */
  readonly multiQueue: boolean;
  /** Ids of those who may attach without privileges; root alone if both are absent. */
  readonly owner?: number;
  readonly group?: number;
  readonly mac?: MacAddress;
  readonly mtu?: number;
}

/** IFF_*: include/uapi/linux/if_tun.h */
const TapFlag = { multiQueue: 0x0100, noPacketInformation: 0x1000 } as const;

/**
 * Makes a tap device under its final name, down; it stays until it is removed. Like
 * `ip tuntap add NAME mode tap [multi_queue] [user UID] [group GID]`.
 * @throws {LinkExistsError}
 * @throws {UnsupportedByKernelError} without /dev/net/tun
 * @throws {NetlinkError} for `mac` and `mtu`; the device is there then
 */
export function createTap(namespace: NetworkNamespace, spec: TapSpec): Device {
  const { name, multiQueue, owner, group, mac, mtu } = spec;
  const flags = TapFlag.noPacketInformation | (multiQueue ? TapFlag.multiQueue : 0);
  try {
    native().createTap(namespace.fd, name, flags, owner ?? -1, group ?? -1);
  } catch (cause) {
    throw explain(cause, name, namespace);
  }
  return finishTap(namespace, {
    name,
    ...(mac === undefined ? {} : { mac }),
    ...(mtu === undefined ? {} : { mtu }),
  });
}

/** Gives a new tap device what only netlink can give it. @throws {NetlinkError} */
export function finishTap(
  namespace: NetworkNamespace,
  { name, mac, mtu }: Pick<TapSpec, "name" | "mac" | "mtu">,
): Device {
  if (mac !== undefined || mtu !== undefined) namespace.transact([setLink(name, { mac, mtu })]);
  const device = readDevice(namespace, name);
  if (!device)
    throw new Error(`Cannot use tap device ${JSON.stringify(name)}: it has gone as soon as it was made`);
  return device;
}

function explain(cause: unknown, name: IfName, namespace: NetworkNamespace): unknown {
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
  // EBUSY: a tap; EINVAL: a link of another kind.
  if (code === "EBUSY" || (code === "EINVAL" && readDevice(namespace, name)))
    return new LinkExistsError(name, namespace, cause);
  const isAbsent = code === "ENOENT" || code === "ENODEV" || code === "ENXIO";
  return isAbsent
    ? new UnsupportedByKernelError(
        `make tap device ${JSON.stringify(name)}`,
        "CONFIG_TUN, or lacks /dev/net/tun",
        cause,
      )
    : cause;
}
