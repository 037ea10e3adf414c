import type { JsonObject, JsonValue } from "#cni/json.ts";
import { hostLocal, plainConfig } from "#conformance/configs.ts";
import { expect } from "#conformance/failure.ts";
import type { Lab, Outside } from "#conformance/lab.ts";
import type { Namespace } from "#conformance/namespace.ts";
import { type Link, readLink } from "#conformance/witness.ts";

/** What cases of macvlan, ipvlan and vlan share: a host with an uplink, and somebody on its wire. */

/** The host's uplink to `outside()`. */
export const uplink = "uplink0";

type Extra = Readonly<Record<string, JsonValue | undefined>>;

/** host-local with addresses on the uplink's wire: 198.51.100.10 and following. */
export function onWire(lab: Lab, extra: Extra = {}): JsonObject {
  return hostLocal(lab, { subnet: "198.51.100.0/24", rangeStart: "198.51.100.10", ...extra });
}

/** A config of the type with the uplink as master. */
export function wireConfig(type: string, lab: Lab, extra: Extra = {}): JsonObject {
  return plainConfig(type, { master: uplink, ipam: onWire(lab), ...extra });
}

/** Gives somebody on the wire an interface in a VLAN of it. */
export async function enterVlan({ namespace }: Outside, id: number, cidr: string): Promise<void> {
  await namespace.ip(`link add link eth0 name vlan${id} type vlan id ${id}`);
  await namespace.ipBatch([`link set vlan${id} up`, `address add ${cidr} dev vlan${id}`]);
}

export async function inside(namespace: Namespace, name = "eth0"): Promise<Link> {
  const link = await readLink(namespace, name);
  expect(link !== undefined, `the container has no ${name}`);
  return link;
}

export async function expectNone(namespace: Namespace, name: string): Promise<void> {
  expect((await readLink(namespace, name)) === undefined, `${name} is still there`);
}
