import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import { bridgeConfig, hostLocal, subnet6 } from "#conformance/configs.ts";
import type { Lab, Outside } from "#conformance/lab.ts";
import type { Namespace } from "#conformance/namespace.ts";
import { askServer } from "#conformance/traffic.ts";
import { mapping, portmapConfig, servedPort } from "./portmap-network.ts";

export const isolationReadme = "bridge README";
/** Of the reference plugins. */
export const unknown = "has no such field";

/** `gatewayMode` of both families. */
export function mode(name: string): JsonObject {
  return { gatewayMode: { ipv4: name, ipv6: name } };
}

/** What `netctl network create` makes unless told otherwise. */
export const nat: JsonObject = { ...mode("nat"), networkIsolation: true };

export interface Place {
  readonly name: string;
  readonly bridge: string;
  readonly subnet: string;
}
export const here: Place = { name: "net-a", bridge: "br0", subnet: "10.77.0.0/24" };
export const there: Place = { name: "net-b", bridge: "br1", subnet: "10.78.0.0/24" };

/** A container with a server, behind a bridge with these fields. */
export async function placed(
  lab: Lab,
  extra: JsonObject,
  { subnet, ...place }: Place = here,
): Promise<Attachment> {
  const config = bridgeConfig(lab, {
    ...place,
    isDefaultGateway: true,
    ipMasq: true,
    ipam: hostLocal(lab, { subnet }),
    ...extra,
  });
  const attachment = await lab.attach(config, await lab.container());
  await lab.serve(attachment.container.namespace, servedPort);
  return attachment;
}

/** Port 8080 of the host leads to its server. */
export async function publish(lab: Lab, attachment: Attachment): Promise<void> {
  await lab.attach(portmapConfig(attachment, [mapping(8080)]), attachment.container);
}

export async function reaches(from: Namespace, host: string, port = servedPort): Promise<boolean> {
  return !(await askServer(from, "tcp", host, port)).startsWith("nobody: ");
}

/** Gives the outside a way to the containers' own addresses. */
export async function craftRoute(
  { namespace, host4, host6 }: Outside,
  { subnet }: Place = here,
): Promise<void> {
  await namespace.shell(`ip route add ${subnet} via ${host4}; ip route add ${subnet6} via ${host6}`);
}
