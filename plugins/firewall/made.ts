import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { ifName, ip, oneOf } from "#cni/schema-values.ts";
import type { JournalRecord } from "#journal/record.ts";
import { formatIp } from "#net/ip.ts";
import type { Attachment } from "./attachment.ts";

const schema = goObject({
  backend: oneOf(["nftables", "iptables", "firewalld"]),
  adminChain: v.string(),
  zone: v.string(),
  addresses: v.array(ip),
  device: v.exactOptional(ifName),
  ingressPolicy: oneOf(["open", "same-bridge", "isolated"]),
  /** The container's port of the bridge, where it has been kept from the others'. */
  isolatedPort: v.exactOptional(ifName),
});

/**
 * What the journal keeps of an attachment: enough to take everything away when configuration and result are gone.
 * Written before anything is made, so all of it may be missing.
 */
export type Made = v.InferOutput<typeof schema>;

export function madeOf(attachment: Attachment, isolatedPort?: Made["isolatedPort"]): Made {
  const { backend, adminChain, zone, addresses, device, ingressPolicy } = attachment;
  return {
    backend,
    adminChain,
    zone,
    addresses: [...addresses],
    ...(device ? { device } : {}),
    ingressPolicy,
    ...(isolatedPort ? { isolatedPort } : {}),
  };
}

export function encodeMade(made: Made): JsonObject {
  return { ...made, addresses: made.addresses.map(formatIp) };
}

/** What a record says was made; undefined for one that is torn or of a program that wrote it otherwise. */
export function decodeMade(record: JournalRecord | undefined): Made | undefined {
  if (!record || record.phase === "torn") return undefined;
  const { success, output } = v.safeParse(schema, record.made);
  return success ? output : undefined;
}
