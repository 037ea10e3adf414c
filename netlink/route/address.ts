import type { Cidr } from "#net/cidr.ts";
import { formatCidr } from "#net/cidr.ts";
import type { IpAddress } from "#net/ip.ts";
import { attributeTable } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { type Codec, expectAtLeast, ip, text, u8, u32 } from "#netlink/codec.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { creationFlags, familyNumber, RouteMessage } from "./constant.ts";

/** IFA_F_*: include/uapi/linux/if_addr.h */
export const AddressFlag = {
  Secondary: 0x1,
  /** No duplicate address detection */
  NoDad: 0x2,
  Optimistic: 0x4,
  DadFailed: 0x8,
  Home: 0x10,
  Deprecated: 0x20,
  Tentative: 0x40,
  Permanent: 0x80,
  ManageTemporary: 0x100,
  /** No route to the address's prefix */
  NoPrefixRoute: 0x200,
} as const;

/** RT_SCOPE_*: include/uapi/linux/rtnetlink.h */
export const Scope = { universe: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const;

/** Seconds; this value means for ever */
export const forever = 0xffffffff;

interface Lifetime {
  readonly preferredSeconds: number;
  readonly validSeconds: number;
}

/** struct ifa_cacheinfo; its two time stamps are not kept */
const lifetime: Codec<Lifetime> = {
  write(into, value) {
    into.u32(value.preferredSeconds).u32(value.validSeconds).u32(0).u32(0);
  },
  read(payload) {
    expectAtLeast(payload, 16);
    const view = viewOf(payload);
    return {
      preferredSeconds: view.getUint32(0, hostLittleEndian),
      validSeconds: view.getUint32(4, hostLittleEndian),
    };
  },
};

/** IFA_*: include/uapi/linux/if_addr.h */
const attributes = attributeTable({
  address: [1, ip], // the peer's of a point-to-point link, else the own
  local: [2, ip],
  label: [3, text],
  broadcast: [4, ip],
  anycast: [5, ip],
  lifetime: [6, lifetime],
  flags: [8, u32],
  metric: [9, u32],
  protocol: [11, u8],
});

const headerBytes = 8;

/** One address of a link, as the kernel reports it. */
export interface InterfaceAddress {
  readonly ifindex: number;
  /** Its host bits are the address. */
  readonly address: Cidr;
  /** The other end of a point-to-point link */
  readonly peer?: IpAddress | undefined;
  readonly broadcast?: IpAddress | undefined;
  /** IPv4 only; the link's name where none was set */
  readonly label?: string | undefined;
  /** Scope */
  readonly scope: number;
  /** AddressFlag */
  readonly flags: number;
  /** Duplicate address detection is under way: it can't be used as a source yet. */
  readonly tentative: boolean;
  readonly dadFailed: boolean;
  readonly metric?: number | undefined;
  readonly preferredSeconds: number;
  readonly validSeconds: number;
}

export interface NewAddress {
  readonly ifindex: number;
  readonly address: Cidr;
  readonly peer?: IpAddress | undefined;
  /** IPv4 only. None where it is left out, as with `ip addr add`. */
  readonly broadcast?: IpAddress | undefined;
  readonly label?: string | undefined;
  readonly scope?: number | undefined;
  /** IPv6: usable at once, as nobody is asked whether it is taken */
  readonly noDad?: boolean | undefined;
  readonly noPrefixRoute?: boolean | undefined;
  /** Of the route to its prefix */
  readonly metric?: number | undefined;
  readonly preferredSeconds?: number | undefined;
  readonly validSeconds?: number | undefined;
  /** Update the one that is there instead of EEXIST */
  readonly replace?: boolean | undefined;
}

/** `ip addr add ADDRESS dev …`. EEXIST where the link has it. */
export function newAddress(address: NewAddress): Request {
  return {
    op: `add address ${formatCidr(address.address)} to link ${address.ifindex}`,
    type: RouteMessage.NewAddress,
    flags: creationFlags(address.replace ? "replace" : "exclusive"),
    body: encode(address),
  };
}

/** `ip addr del ADDRESS dev …`. EADDRNOTAVAIL where the link has it not. */
export function deleteAddress(address: Pick<NewAddress, "ifindex" | "address" | "peer" | "label">): Request {
  return {
    op: `delete address ${formatCidr(address.address)} of link ${address.ifindex}`,
    type: RouteMessage.DeleteAddress,
    flags: 0,
    body: encode(address),
  };
}

/** For `dump`: `ip addr show [dev …]`. The kernel filters; ENODEV for an ifindex that is not. */
export function getAddresses(filter: { readonly family?: 4 | 6; readonly ifindex?: number } = {}): Request {
  const writer = new Writer(headerBytes);
  writer
    .u8(familyNumber(filter.family))
    .zeros(3)
    .u32(filter.ifindex ?? 0);
  return { op: "read addresses", type: RouteMessage.GetAddress, flags: 0, body: writer.finish() };
}

/** Reads RTM_NEWADDR or RTM_DELADDR. @throws {DecodeError} */
export function decodeAddress({ body }: Message): InterfaceAddress {
  expectAtLeast(body, headerBytes);
  const view = viewOf(body);
  const values = attributes.decode(body.subarray(headerBytes));
  const own = values.local ?? values.address;
  if (!own) throw new DecodeError("neither IFA_LOCAL nor IFA_ADDRESS", ["address"]);
  const peer =
    values.local && values.address && values.address.value !== values.local.value
      ? values.address
      : undefined;
  // The header has room for eight flags only.
  const flags = values.flags ?? view.getUint8(2);
  return {
    ifindex: view.getUint32(4, hostLittleEndian),
    address: { address: own, prefixLength: Math.min(view.getUint8(1), own.family === 4 ? 32 : 128) },
    peer,
    broadcast: values.broadcast,
    label: values.label,
    scope: view.getUint8(3),
    flags,
    tentative: (flags & AddressFlag.Tentative) !== 0,
    dadFailed: (flags & AddressFlag.DadFailed) !== 0,
    metric: values.metric,
    preferredSeconds: values.lifetime?.preferredSeconds ?? forever,
    validSeconds: values.lifetime?.validSeconds ?? forever,
  };
}

function encode(spec: NewAddress): Uint8Array {
  const { address, peer } = spec;
  let flags = 0;
  if (spec.noDad) flags |= AddressFlag.NoDad;
  if (spec.noPrefixRoute) flags |= AddressFlag.NoPrefixRoute;
  const limited = spec.preferredSeconds !== undefined || spec.validSeconds !== undefined;
  const writer = new Writer();
  writer
    .u8(familyNumber(address.address.family))
    .u8(address.prefixLength)
    .u8(flags & 0xff);
  writer.u8(spec.scope ?? Scope.universe).u32(spec.ifindex);
  attributes.write(writer, {
    local: address.address,
    address: peer ?? address.address,
    broadcast: spec.broadcast,
    label: spec.label,
    flags: flags === 0 ? undefined : flags,
    metric: spec.metric,
    lifetime: limited
      ? { preferredSeconds: spec.preferredSeconds ?? forever, validSeconds: spec.validSeconds ?? forever }
      : undefined,
  });
  return writer.finish();
}
