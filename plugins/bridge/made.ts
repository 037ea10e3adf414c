import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { cidr, ifName, int, ip, mac, oneOf } from "#cni/schema-values.ts";
import type { JournalRecord } from "#journal/record.ts";
import { type Cidr, formatCidr } from "#net/cidr.ts";
import { formatIp } from "#net/ip.ts";
import type { NetworkPolicy } from "#nftables/network-policy.ts";
import type { Attachment } from "./attachment.ts";

const access = oneOf(["open", "protected", "routed", "isolated"]);

const schema = goObject({
  bridge: ifName,
  hostVeth: ifName,
  hostMac: mac,
  containerMac: mac,
  /** Addresses that were masqueraded, with the prefix of their subnet. */
  masquerade: v.array(cidr),
  masqueradeBackend: oneOf(["nftables", "iptables"]),
  macSpoofCheck: v.boolean(),
  vlanGateway: v.exactOptional(goObject({ id: int(), name: ifName, portName: ifName })),
  snat: v.optional(v.array(goObject({ address: ip, to: ip })), []),
  /** Absent: the container was not kept to its addresses. */
  ownAddresses: v.exactOptional(v.array(ip)),
  /** Absent, with the policy, in records of versions that knew none. */
  device: v.exactOptional(ifName),
  policy: v.exactOptional(
    goObject({
      internal: v.boolean(),
      icc: v.boolean(),
      isolated: v.boolean(),
      access: goObject({ ipv4: access, ipv6: access }),
      trusted: v.array(ifName),
    }),
  ),
});

/**
 * What the journal keeps of an attachment: enough to take everything away when namespace, configuration and result
 * are gone. Written before anything is made, so all of it may be missing.
 */
export type Made = Omit<v.InferOutput<typeof schema>, "policy"> & { readonly policy?: NetworkPolicy };

/** @param masquerade empty as long as the IPAM plugin has not answered */
export function madeOf(attachment: Attachment): Made {
  const { bridge, hostVeth, container, gateway } = attachment;
  return {
    bridge: bridge.name,
    hostVeth: hostVeth.name,
    hostMac: hostVeth.mac,
    containerMac: container.mac,
    masquerade: [...attachment.masquerade],
    masqueradeBackend: attachment.masqueradeBackend,
    macSpoofCheck: attachment.macSpoofCheck,
    ...(gateway?.vlan ? { vlanGateway: gateway.vlan } : {}),
    snat: [...attachment.snat],
    ...(attachment.ownAddresses ? { ownAddresses: [...attachment.ownAddresses] } : {}),
    device: attachment.device,
    policy: attachment.policy,
  };
}

export function encodeMade(made: Made): JsonObject {
  const { vlanGateway, snat, ownAddresses, policy, ...rest } = made;
  return {
    ...rest,
    masquerade: made.masquerade.map((each: Cidr) => formatCidr(each)),
    ...(vlanGateway ? { vlanGateway } : {}),
    ...(snat.length === 0
      ? {}
      : { snat: snat.map(({ address, to }) => ({ address: formatIp(address), to: formatIp(to) })) }),
    ...(ownAddresses ? { ownAddresses: ownAddresses.map(formatIp) } : {}),
    ...(policy ? { policy: encodePolicy(policy) } : {}),
  };
}

function encodePolicy({ access, trusted, ...flags }: NetworkPolicy): JsonObject {
  return { ...flags, access: { ipv4: access[4], ipv6: access[6] }, trusted: [...trusted] };
}

/** What a record says was made; undefined for one that is torn or of a program that wrote it otherwise. */
export function decodeMade(record: JournalRecord | undefined): Made | undefined {
  if (!record || record.phase === "torn") return undefined;
  const outcome = v.safeParse(schema, record.made);
  if (!outcome.success) return undefined;
  const { policy, ...made } = outcome.output;
  if (!policy) return made;
  return { ...made, policy: { ...policy, access: { 4: policy.access.ipv4, 6: policy.access.ipv6 } } };
}
