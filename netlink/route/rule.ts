import { type Cidr, formatCidr } from "#net/cidr.ts";
import { type IpAddress, ipBits } from "#net/ip.ts";
import { attributeTable } from "#netlink/attribute.ts";
import { hostLittleEndian, viewOf } from "#netlink/byte-order.ts";
import { bytes, type Codec, expectAtLeast, ip, text, u8, u32 } from "#netlink/codec.ts";
import { DecodeError } from "#netlink/decode-error.ts";
import type { Message, Request } from "#netlink/message.ts";
import { Writer } from "#netlink/writer.ts";
import { creationFlags, Family, familyNumber, RouteMessage } from "./constant.ts";

/** FR_ACT_*: include/uapi/linux/fib_rules.h */
export const RuleAction = { lookup: 1, goto: 2, nop: 3, blackhole: 6, unreachable: 7, prohibit: 8 } as const;

/** FIB_RULE_INVERT */
const invertFlag = 0x2;

interface PortRange {
  readonly start: number;
  readonly end: number;
}

/** struct fib_rule_port_range */
const portRange: Codec<PortRange> = {
  write(into, value) {
    into.u16(value.start).u16(value.end);
  },
  read(payload) {
    expectAtLeast(payload, 4);
    const view = viewOf(payload);
    return { start: view.getUint16(0, hostLittleEndian), end: view.getUint16(2, hostLittleEndian) };
  },
};

/** FRA_*: include/uapi/linux/fib_rules.h */
const attributes = attributeTable({
  to: [1, ip],
  from: [2, ip],
  inputName: [3, text],
  goto: [4, u32],
  priority: [6, u32],
  mark: [10, u32],
  suppressGroup: [13, u32],
  suppressPrefixLength: [14, u32],
  table: [15, u32],
  mask: [16, u32],
  outputName: [17, text],
  l3mdev: [19, u8],
  uidRange: [20, bytes],
  protocol: [21, u8],
  ipProtocol: [22, u8],
  sourcePorts: [23, portRange],
  destinationPorts: [24, portRange],
});

const headerBytes = 12;

/** One rule of the routing policy: what it matches, and where to look then. */
export interface Rule {
  readonly family: 4 | 6;
  /** Lower ones are asked first. Where it is left out, the kernel takes one below the lowest that is not 0. */
  readonly priority?: number | undefined;
  readonly from?: Cidr | undefined;
  readonly to?: Cidr | undefined;
  /** Name of the link it came in by; it need not exist */
  readonly inputName?: string | undefined;
  readonly outputName?: string | undefined;
  readonly mark?: number | undefined;
  readonly mask?: number | undefined;
  /** IPPROTO_* */
  readonly ipProtocol?: number | undefined;
  readonly sourcePorts?: PortRange | undefined;
  readonly destinationPorts?: PortRange | undefined;
  /** Matches links of a VRF, and looks into its table */
  readonly l3mdev?: boolean | undefined;
  /** Matches what the rest does not match */
  readonly invert?: boolean | undefined;
  /** RuleAction; lookup by default */
  readonly action?: number | undefined;
  readonly table?: number | undefined;
  /** Priority to jump to, with action goto */
  readonly goto?: number | undefined;
  /** Routes with such a prefix or a shorter one do not count: 0 ignores default routes */
  readonly suppressPrefixLength?: number | undefined;
  /** RouteProtocol: who made it */
  readonly protocol?: number | undefined;
}

/** `ip rule add …`. EEXIST where there is the same one. */
export function newRule(rule: Rule): Request {
  return {
    op: `add ${ruleText(rule)}`,
    type: RouteMessage.NewRule,
    flags: creationFlags(),
    body: encode(rule, RuleAction.lookup),
  };
}

/** `ip rule del …`: the first that matches everything given. ENOENT where there is none. */
export function deleteRule(rule: Rule): Request {
  return { op: `delete ${ruleText(rule)}`, type: RouteMessage.DeleteRule, flags: 0, body: encode(rule, 0) };
}

/** For `dump`: `ip rule show` */
export function getRules(family: 4 | 6): Request {
  const writer = new Writer(headerBytes);
  writer.u8(familyNumber(family)).zeros(headerBytes - 1);
  return { op: `read IPv${family} rules`, type: RouteMessage.GetRule, flags: 0, body: writer.finish() };
}

/** Reads RTM_NEWRULE or RTM_DELRULE of IPv4 or IPv6. @throws {DecodeError} */
export function decodeRule({ body }: Message): Rule {
  expectAtLeast(body, headerBytes);
  const view = viewOf(body);
  const number = view.getUint8(0);
  if (number !== Family.Ipv4 && number !== Family.Ipv6)
    throw new DecodeError(`rule of address family ${number}`);
  const family = number === Family.Ipv4 ? 4 : 6;
  const {
    to,
    from,
    l3mdev,
    suppressGroup: _,
    uidRange: __,
    unknown: ___,
    ...values
  } = attributes.decode(body.subarray(headerBytes));
  const cidr = (address: IpAddress | undefined, prefixLength: number): Cidr | undefined =>
    address && { address, prefixLength: Math.min(prefixLength, ipBits(family)) };
  return {
    family,
    priority: 0,
    ...values,
    to: cidr(to, view.getUint8(1)),
    from: cidr(from, view.getUint8(2)),
    // Always reported: all bits set says that nothing is suppressed.
    suppressPrefixLength:
      values.suppressPrefixLength === 0xffffffff ? undefined : values.suppressPrefixLength,
    l3mdev: l3mdev === 1,
    invert: (view.getUint32(8, hostLittleEndian) & invertFlag) !== 0,
    action: view.getUint8(7),
    table: values.table ?? view.getUint8(4),
  };
}

function encode(rule: Rule, defaultAction: number): Uint8Array {
  const table = rule.table ?? 0;
  const writer = new Writer();
  writer
    .u8(familyNumber(rule.family))
    .u8(rule.to?.prefixLength ?? 0)
    .u8(rule.from?.prefixLength ?? 0)
    .u8(0);
  writer
    .u8(table > 0xff ? 0 : table)
    .zeros(2)
    .u8(rule.action ?? defaultAction);
  writer.u32(rule.invert ? invertFlag : 0);
  attributes.write(writer, {
    ...rule,
    to: rule.to?.address,
    from: rule.from?.address,
    l3mdev: rule.l3mdev ? 1 : undefined,
    table: table > 0xff ? table : undefined,
    unknown: undefined,
  });
  return writer.finish();
}

function ruleText(rule: Rule): string {
  const parts = [`IPv${rule.family} rule`];
  if (rule.priority !== undefined) parts.push(String(rule.priority));
  if (rule.from) parts.push(`from ${formatCidr(rule.from)}`);
  if (rule.to) parts.push(`to ${formatCidr(rule.to)}`);
  return parts.join(" ");
}
