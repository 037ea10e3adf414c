import type { IpAddress } from "#net/ip.ts";
import { type ElementRef, formatElement } from "#nftables/element.ts";
import type { Nftables } from "#nftables/nftables.ts";

export interface Published {
  readonly address: IpAddress;
  readonly port: number;
  /** In nft's words. */
  readonly element: string;
}

/** Where a port of the host leads, in the order in which the rules look it up. @throws {NetlinkError} */
export async function findPublished(
  nftables: Nftables,
  protocol: "tcp" | "udp" | "icmp",
  address: IpAddress,
  port: number,
): Promise<Published | undefined> {
  if (protocol === "icmp") return undefined;
  const refs: readonly ElementRef[] =
    address.family === 4
      ? [
          { set: "hostPorts4", key: [address, protocol, port] },
          { set: "ports4", key: [protocol, port] },
          { set: "hostPortRanges4", key: [address, protocol, { first: port, last: port }] },
          { set: "portRanges4", key: [protocol, { first: port, last: port }] },
        ]
      : [
          { set: "hostPorts6", key: [address, protocol, port] },
          { set: "ports6", key: [protocol, port] },
          { set: "hostPortRanges6", key: [address, protocol, { first: port, last: port }] },
          { set: "portRanges6", key: [protocol, { first: port, last: port }] },
        ];
  for (const ref of refs) {
    const present = await nftables.read(ref);
    const [to, toPort] = present?.value ?? [];
    if (!present || to === undefined) continue;
    const element = formatElement({ set: ref.set, key: present.key, value: present.value });
    return { address: to as IpAddress, port: typeof toPort === "number" ? toPort : port, element };
  }
  return undefined;
}
