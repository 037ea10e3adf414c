import type { IpAddress } from "#net/ip.ts";
import type { MacAddress } from "#net/mac.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { creationFlags, Family, type Presence, RouteMessage } from "./constant.ts";
import {
  NeighborFlag,
  NeighborState,
  neighborAttributes,
  neighborHeaderBytes,
  readNeighborHeader,
  writeNeighborHeader,
} from "./neighbor.ts";

/** One entry of a bridge's or a tunnel's forwarding database, as the kernel reports it. */
export interface ForwardingEntry {
  /** The port, or the tunnel itself */
  readonly ifindex: number;
  readonly mac: MacAddress;
  /** Remote end of a tunnel */
  readonly destination?: IpAddress | undefined;
  readonly vlan?: number | undefined;
  readonly vni?: number | undefined;
  /** UDP port of the remote end, if not the tunnel's */
  readonly port?: number | undefined;
  /** ifindex of the bridge */
  readonly master?: number | undefined;
  /** Link that a tunnel's packets leave by, where the entry says so */
  readonly viaIfindex?: number | undefined;
  /** NeighborState: permanent (own address), noArp (static), reachable and stale (learned) */
  readonly state: number;
  /** NeighborFlag */
  readonly flags: number;
}

export interface ForwardingKey {
  readonly ifindex: number;
  readonly mac: MacAddress;
  /**
   * Whose table: the link's own, as a tunnel has one, or that of the bridge it is a port of. Own by default, as
   * `bridge fdb` has it.
   */
  readonly table?: "self" | "master" | undefined;
  readonly destination?: IpAddress | undefined;
  readonly vlan?: number | undefined;
  readonly vni?: number | undefined;
  readonly port?: number | undefined;
  /** Leave by this link */
  readonly viaIfindex?: number | undefined;
}

export interface NewForwardingEntry extends ForwardingKey {
  /** NeighborState; permanent by default. Static entries of a bridge are noArp. */
  readonly state?: number | undefined;
  readonly presence?: Presence | undefined;
}

/**
 * Adds a forwarding entry: `bridge fdb add|replace|append MAC dev …`. Only a tunnel can append: one address, several
 * remote ends, each of which gets a copy.
 * @see RFC 7348 section 4.2
 */
export function newForwardingEntry(entry: NewForwardingEntry): Request {
  return {
    op: `add ${entryText(entry)}`,
    type: RouteMessage.NewNeighbor,
    flags: creationFlags(entry.presence),
    body: encode(entry, entry.state ?? NeighborState.permanent),
  };
}

/**
 * `bridge fdb del MAC dev …`. ENOENT where there is none. Of a tunnel's, with a destination: all of it has to be said,
 * `viaIfindex` too, or the kernel removes nothing and says that it did (vxlan_fdb_delete, drivers/net/vxlan).
 */
export function deleteForwardingEntry(entry: ForwardingKey): Request {
  return {
    op: `delete ${entryText(entry)}`,
    type: RouteMessage.DeleteNeighbor,
    flags: 0,
    body: encode(entry, NeighborState.permanent),
  };
}

/** For `dump`: `bridge fdb show [dev …] [br …]` */
export function getForwardingEntries(
  filter: { readonly ifindex?: number; readonly master?: number } = {},
): Request {
  const writer = new Writer(32);
  writeNeighborHeader(writer, { family: Family.Bridge, ifindex: filter.ifindex ?? 0, state: 0, flags: 0 });
  neighborAttributes.write(writer, { master: filter.master });
  return { op: "read forwarding entries", type: RouteMessage.GetNeighbor, flags: 0, body: writer.finish() };
}

/** Reads RTM_NEWNEIGH or RTM_DELNEIGH of AF_BRIDGE. @throws {DecodeError} */
export function decodeForwardingEntry({ body }: Message): ForwardingEntry {
  const { ifindex, state, flags } = readNeighborHeader(body);
  const values = neighborAttributes.decode(body.subarray(neighborHeaderBytes));
  if (typeof values.address !== "string") throw new DecodeError("no NDA_LLADDR of six bytes", ["fdb"]);
  const { address: mac, destination, vlan, vni, port, master, ifindex: viaIfindex } = values;
  return { ifindex, mac, destination, vlan, vni, port, master, viaIfindex, state, flags };
}

function encode(entry: ForwardingKey, state: number): Uint8Array {
  const { destination, vlan, vni, port, viaIfindex } = entry;
  const flags = entry.table === "master" ? NeighborFlag.Master : NeighborFlag.Self;
  const writer = new Writer(64);
  writeNeighborHeader(writer, { family: Family.Bridge, ifindex: entry.ifindex, state, flags });
  neighborAttributes.write(writer, { address: entry.mac, destination, vlan, port, vni, ifindex: viaIfindex });
  return writer.finish();
}

function entryText({ mac, ifindex }: ForwardingKey): string {
  return `forwarding entry ${mac} of link ${ifindex}`;
}
