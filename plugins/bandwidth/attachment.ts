import type { AttachmentKey } from "#journal/record.ts";
import type { Selection, Shape } from "#kernel/shaping.ts";
import type { BandwidthConfig, Rate } from "./config.ts";

/** Where a container's traffic can be got hold of. */
export type Place = "host" | "container";

/** Everything that one ADD makes, as a value: what follows from the request and from the interface that there is. */
export interface Attachment {
  readonly key: AttachmentKey;
  /**
   * "host": at the host's end of its veth pair, where the container has no hand in it. "container": at its own
   * interface.
   */
  readonly place: Place;
  readonly device: { readonly name: string; readonly ifindex: number; readonly mtu: number };
  /** Of what leaves through the device. */
  readonly leaving: Directed | undefined;
  /** Of what arrives by it. */
  readonly arriving: Directed | undefined;
}

/** One direction: how much, and of what. */
export interface Directed {
  readonly shape: Shape;
  readonly selection: Selection;
}

export function describeAttachment(input: {
  readonly config: BandwidthConfig;
  readonly key: AttachmentKey;
  readonly place: Place;
  readonly device: Attachment["device"];
}): Attachment {
  const { config, key, place, device } = input;
  const { mode, subnets } = config;
  const directed = (rate: Rate | undefined, remote: Selection["remote"]): Directed | undefined =>
    rate && { shape: shapeFor(rate, device.mtu), selection: { mode, subnets, remote } };
  const toContainer = directed(config.ingress, "source");
  const fromContainer = directed(config.egress, "destination");
  return {
    key,
    place,
    device,
    leaving: place === "host" ? toContainer : fromContainer,
    arriving: place === "host" ? fromContainer : toContainer,
  };
}

/** How long a packet may wait at most, besides the time that a burst takes. As in the reference. */
const latencyMs = 25n;
/** Ethernet's header with two VLAN tags */
const headerBytes = 22;
const maxBytes = 0xffffffff;

/** A bucket that does not hold one whole packet would never let any through. */
function shapeFor({ bytesPerSecond, burstBytes }: Rate, mtu: number): Shape {
  const burst = Math.max(burstBytes, mtu + headerBytes);
  const limit = Number((bytesPerSecond * latencyMs) / 1000n) + burst;
  return { bytesPerSecond, burstBytes: burst, limitBytes: Math.min(limit, maxBytes) };
}

/** Filters that take hold of what arrives: one for each subnet, and one for all else. */
export function filterCount({ arriving }: Pick<Attachment, "arriving">): number {
  return (arriving?.selection.subnets.length ?? 0) + 1;
}
