import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { cidr, ifName, mac, oneOf } from "#cni/schema-values.ts";
import type { Json } from "#journal/record.ts";
import { formatCidr } from "#net/cidr.ts";

const schema = goObject({
  hostVeth: ifName,
  hostMac: mac,
  containerMac: mac,
  /** Addresses that are masqueraded, with the prefix of their subnet; none until the IPAM plugin has answered. */
  masquerade: v.array(cidr),
  masqueradeBackend: oneOf(["nftables", "iptables"]),
});

/** What the journal keeps of an attachment. Addresses and routes go with the link. */
export type Made = v.InferOutput<typeof schema>;

export function encodeMade(made: Made): JsonObject {
  return { ...made, masquerade: made.masquerade.map(formatCidr) };
}

/** Undefined for what another version wrote otherwise. */
export function decodeMade(made: Json | undefined): Made | undefined {
  const outcome = v.safeParse(schema, made);
  return outcome.success ? outcome.output : undefined;
}
