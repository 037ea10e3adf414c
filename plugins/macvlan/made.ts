import * as v from "valibot";
import type { JsonObject } from "#cni/json.ts";
import { goObject } from "#cni/schema.ts";
import { cidr, ifName, mac } from "#cni/schema-values.ts";
import type { Json } from "#journal/record.ts";
import { formatCidr } from "#net/cidr.ts";
import { parentSchema } from "#plugins/parent-link.ts";

const schema = goObject({
  parent: parentSchema,
  mac: v.exactOptional(mac),
  /** The host's own macvlan on the same parent, and the addresses that it leads to. */
  hostAccess: v.exactOptional(goObject({ link: ifName, addresses: v.array(cidr) })),
});

/** What the journal keeps of an attachment: enough to take everything away without the namespace or the configuration. */
export type Made = v.InferOutput<typeof schema>;

export function encodeMade({ hostAccess, ...rest }: Made): JsonObject {
  return {
    ...rest,
    ...(hostAccess ? { hostAccess: { ...hostAccess, addresses: hostAccess.addresses.map(formatCidr) } } : {}),
  };
}

export function decodeMade(made: Json): Made | undefined {
  const outcome = v.safeParse(schema, made);
  return outcome.success ? outcome.output : undefined;
}
