import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { cidr, ifName, int, mac, oneOf } from "#cni/schema-values.ts";
import type { JournalRecord } from "#journal/record.ts";
import { type Cidr, formatCidr } from "#net/cidr.ts";
import type { Attachment } from "./attachment.ts";

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
});

/**
 * What the journal keeps of an attachment: enough to take everything away when namespace, configuration and result
 * are gone. Written before anything is made, so all of it may be missing.
 */
export type Made = v.InferOutput<typeof schema>;

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
  };
}

export function encodeMade(made: Made): JsonObject {
  const { vlanGateway, ...rest } = made;
  return {
    ...rest,
    masquerade: made.masquerade.map((each: Cidr) => formatCidr(each)),
    ...(vlanGateway ? { vlanGateway } : {}),
  };
}

/** What a record says was made; undefined for one that is torn or of a program that wrote it otherwise. */
export function decodeMade(record: JournalRecord | undefined): Made | undefined {
  if (!record || record.phase === "torn") return undefined;
  const outcome = v.safeParse(schema, record.made);
  return outcome.success ? outcome.output : undefined;
}
