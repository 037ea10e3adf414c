import { formatIp, type IpAddress } from "#net/ip.ts";
import { attributeTable } from "#netlink/attribute.ts";
import { ip, u8, u16be, u32, u32be } from "#netlink/codec.ts";
import type { Message, Request } from "#netlink/message.ts";
import { decodeNetfilter, encodeNetfilter, NetfilterFamily, Subsystem } from "./header.ts";

/** IPCTNL_MSG_CT_*: include/uapi/linux/netfilter/nfnetlink_conntrack.h */
const ConntrackMessage = { Get: 1, Delete: 2 } as const;

function messageType(message: number): number {
  return (Subsystem.conntrack << 8) | message;
}

/** CTA_IP_* */
const tupleIp = attributeTable({
  source4: [1, ip],
  destination4: [2, ip],
  source6: [3, ip],
  destination6: [4, ip],
});
/** CTA_PROTO_*; of ICMP others than these */
const tupleProtocol = attributeTable({
  number: [1, u8],
  sourcePort: [2, u16be],
  destinationPort: [3, u16be],
});
/** CTA_TUPLE_* */
const tuple = attributeTable({ ip: [1, tupleIp], protocol: [2, tupleProtocol], zone: [3, u16be] });
/** CTA_FILTER_*: which fields of the tuples beside it have to be equal (kernel 5.8) */
const filter = attributeTable({ original: [1, u32], reply: [2, u32] });

/** CTA_FILTER_F_*: net/netfilter/nf_internals.h. Of kernel and user space alike, though in no uapi header. */
const FilterFlag = { ProtocolNumber: 1 << 3, DestinationPort: 1 << 5 } as const;

/** CTA_* */
const attributes = attributeTable({
  original: [1, tuple],
  reply: [2, tuple],
  status: [3, u32be],
  id: [12, u32be],
  zone: [18, u16be],
  filter: [25, filter],
  statusMask: [26, u32be],
});

/** enum ip_conntrack_status: include/uapi/linux/netfilter/nf_conntrack_common.h */
export const FlowStatus = { SeenReply: 1 << 1, SourceTranslated: 1 << 4 } as const;

/** One direction of a flow, as its packets are when the host gets them. */
export interface Tuple {
  readonly source: IpAddress;
  readonly destination: IpAddress;
  /** IPPROTO_* */
  readonly protocol: number;
  /** 0 for protocols without ports. */
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** A connection that the kernel tracks. */
export interface Flow {
  readonly family: 4 | 6;
  /** As it began. */
  readonly original: Tuple;
  /** How answers come back: where a destination was translated, their source is the translation. */
  readonly reply: Tuple;
  readonly id?: number | undefined;
  /** FlowStatus.*, and others. */
  readonly status?: number | undefined;
  /** Absent: the default zone. */
  readonly zone?: number | undefined;
}

const header = (family: 4 | 6) => ({
  family: family === 4 ? NetfilterFamily.ip : NetfilterFamily.ip6,
  resourceId: 0,
});

export interface FlowFilter {
  readonly family: 4 | 6;
  /** IPPROTO_* */
  readonly protocol: number;
  /** As the flow began. */
  readonly destinationPort?: number | undefined;
  /** FlowStatus.*, or'ed: none of these is set. */
  readonly without?: number | undefined;
}

/**
 * For `dump`: like `conntrack -L -f FAMILY -p PROTOCOL --orig-port-dst PORT`. Kernels before 5.8 don't know the filter
 * and answer with everything of the family: filter again.
 */
export function getFlows({ family, protocol, destinationPort, without }: FlowFilter): Request {
  const body = attributes.encode({
    original: { protocol: { number: protocol, destinationPort } },
    filter: {
      original: FilterFlag.ProtocolNumber | (destinationPort === undefined ? 0 : FilterFlag.DestinationPort),
      reply: 0,
    },
    ...(without === undefined ? {} : { status: 0, statusMask: without }),
  });
  return {
    op: `read tracked connections of IPv${family}`,
    type: messageType(ConntrackMessage.Get),
    flags: 0,
    body: encodeNetfilter(header(family), body),
  };
}

/** Like `conntrack -D` for one flow. ENOENT: it has gone, or another has taken its place. */
export function deleteFlow(flow: Flow): Request {
  const { family, original, id, zone } = flow;
  const { source, destination, protocol, sourcePort, destinationPort } = original;
  const addresses =
    family === 4
      ? { source4: source, destination4: destination }
      : { source6: source, destination6: destination };
  const body = attributes.encode({
    original: { ip: addresses, protocol: { number: protocol, sourcePort, destinationPort } },
    id,
    zone,
  });
  return {
    op: `forget the connection ${formatIp(source)}:${sourcePort} to ${formatIp(destination)}:${destinationPort}`,
    type: messageType(ConntrackMessage.Delete),
    flags: 0,
    body: encodeNetfilter(header(family), body),
  };
}

/** @returns undefined for what is no flow of IPv4 or IPv6 @throws {DecodeError} */
export function decodeFlow({ body }: Message): Flow | undefined {
  const { header: said, attributes: data } = decodeNetfilter(body);
  const family = said.family === NetfilterFamily.ip ? 4 : said.family === NetfilterFamily.ip6 ? 6 : undefined;
  const values = attributes.decode(data);
  const original = tupleOf(values.original);
  const reply = tupleOf(values.reply);
  if (!family || !original || !reply) return undefined;
  return { family, original, reply, id: values.id, status: values.status, zone: values.zone };
}

function tupleOf(values: ReturnType<typeof tuple.decode> | undefined): Tuple | undefined {
  const source = values?.ip?.source4 ?? values?.ip?.source6;
  const destination = values?.ip?.destination4 ?? values?.ip?.destination6;
  const protocol = values?.protocol?.number;
  if (!source || !destination || protocol === undefined) return undefined;
  return {
    source,
    destination,
    protocol,
    sourcePort: values?.protocol?.sourcePort ?? 0,
    destinationPort: values?.protocol?.destinationPort ?? 0,
  };
}
