import type { JsonObject } from "#cni/json.ts";
import type { Attachment } from "#conformance/attachment.ts";
import { bridgeConfig, dualStack, fields, hostLocal, plainConfig } from "#conformance/configs.ts";
import type { Container, Lab, Outside } from "#conformance/lab.ts";

/** The ports on which the containers' servers wait. */
export const servedPort = 7100;

export const portmapReadme = "portmap README";

/** One entry of `portMappings`; TCP, to the served port. */
export function mapping(hostPort: number, extra: JsonObject = {}): JsonObject {
  return { hostPort, containerPort: servedPort, protocol: "tcp", ...extra };
}

/** The request configuration of portmap behind a bridge. */
export function portmapConfig(
  previous: Attachment,
  portMappings: readonly JsonObject[] | undefined,
  extra: JsonObject = {},
): JsonObject {
  const runtimeConfig = portMappings && { portMappings: [...portMappings] };
  return plainConfig("portmap", {
    ...fields({ name: previous.config["name"], runtimeConfig, prevResult: previous.result.json }),
    ...extra,
  });
}

/** A container on a bridge that routes. `"net-b"` is another network than the usual one. */
export async function bridged(
  lab: Lab,
  network: "net-a" | "net-b" = "net-a",
  container?: Container,
): Promise<Attachment> {
  const other: JsonObject = {
    name: "net-b",
    bridge: "br1",
    ipam: hostLocal(lab, { subnet: "10.78.0.0/24" }),
  };
  const config = bridgeConfig(lab, {
    isDefaultGateway: true,
    ipMasq: true,
    ipam: dualStack(lab),
    ...(network === "net-b" ? other : {}),
  });
  return lab.attach(config, container ?? (await lab.container()));
}

/** A container with a server, and its ports published. */
export async function published(
  lab: Lab,
  portMappings: readonly JsonObject[],
  extra: JsonObject = {},
  previous?: Attachment,
): Promise<Attachment> {
  const before = previous ?? (await bridged(lab));
  await lab.serve(before.container.namespace, servedPort);
  return lab.attach(portmapConfig(before, portMappings, extra), before.container);
}

/** Gives the outside a way to 127.0.0.1 of the host, in place of its own. */
export async function craftLoopbackRoute({ namespace, host4 }: Outside): Promise<void> {
  await namespace.shell(
    `ip address flush dev lo; ip route add 127.0.0.1/32 via ${host4}; echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet`,
  );
}
