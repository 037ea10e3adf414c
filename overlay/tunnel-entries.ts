import type { NetworkNamespace } from "#kernel/namespace.ts";
import { equalIp, formatIp, type IpAddress } from "#net/ip.ts";
import type { MacAddress } from "#net/mac.ts";
import { decodeForwardingEntry, getForwardingEntries } from "#netlink/route/fdb.ts";
import { decodeNeighbor, getNeighbors } from "#netlink/route/neighbor.ts";

/** What a tunnel's device needs to send to one other host. */
export interface TunnelWay {
  readonly gateway: IpAddress;
  readonly mac: MacAddress;
  /** Undefined: whichever it is, as inside an encrypted tunnel. */
  readonly underlay: IpAddress | undefined;
}

/** What of it is not in the kernel, in words; empty if packets find their way. */
export function missingEntries(
  namespace: NetworkNamespace,
  ifindex: number,
  { gateway, mac, underlay }: TunnelWay,
): readonly string[] {
  const neighbors = namespace.dump(getNeighbors({ ifindex })).map(decodeNeighbor);
  const forwarding = namespace.dump(getForwardingEntries({ ifindex })).map(decodeForwardingEntry);
  const missing: string[] = [];
  if (!neighbors.some((each) => equalIp(each.ip, gateway) && each.mac === mac))
    missing.push(`neighbour ${formatIp(gateway)} at ${mac}`);
  if (
    !forwarding.some(
      (each) =>
        each.mac === mac &&
        each.destination !== undefined &&
        (underlay === undefined || equalIp(each.destination, underlay)),
    )
  )
    missing.push(`forwarding entry of ${mac}${underlay ? ` to ${formatIp(underlay)}` : ""}`);
  return missing;
}
