import type { JsonObject, JsonValue } from "#cni/json.ts";
import type { Lab } from "./lab.ts";

type Fields = Readonly<Record<string, JsonValue | undefined>>;

export const subnet4 = "10.77.0.0/24";
export const gateway4 = "10.77.0.1";
export const subnet6 = "fd00:77::/64";
export const gateway6 = "fd00:77::1";

/** Without the fields that are undefined. */
export function fields(given: Fields): JsonObject {
  const kept: Record<string, JsonValue> = {};
  for (const [key, value] of Object.entries(given)) if (value !== undefined) kept[key] = value;
  return kept;
}

/** host-local on one IPv4 range, with the lab's dataDir. */
export function hostLocal(lab: Lab, extra: Fields = {}): JsonObject {
  return fields({
    type: "host-local",
    dataDir: lab.dataDir,
    ...(extra["subnet"] === undefined && extra["ranges"] === undefined ? { subnet: subnet4 } : {}),
    ...extra,
  });
}

/** host-local on one IPv4 and one IPv6 range. */
export function dualStack(lab: Lab, extra: Fields = {}): JsonObject {
  return hostLocal(lab, { ranges: [[{ subnet: subnet4 }], [{ subnet: subnet6 }]], ...extra });
}

/** A network config of the bridge plugin: bridge "br0", host-local on 10.77.0.0/24. `ipam: undefined` is L2. */
export function bridgeConfig(lab: Lab, extra: Fields = {}): JsonObject {
  return fields({
    cniVersion: "1.0.0",
    name: "net-a",
    type: "bridge",
    bridge: "br0",
    ipam: hostLocal(lab),
    ...extra,
  });
}

/** The same with a way out: dual stack, default routes. */
export function routedBridge(lab: Lab, extra: Fields = {}): JsonObject {
  return bridgeConfig(lab, { isDefaultGateway: true, ipam: dualStack(lab), ...extra });
}

/** A network config whose IPAM is called directly. */
export function ipamConfig(ipam: JsonObject, extra: Fields = {}): JsonObject {
  return fields({ cniVersion: "1.0.0", name: "net-a", type: "bridge", ipam, ...extra });
}

/** A config of `type` with nothing else. */
export function plainConfig(type: string, extra: Fields = {}): JsonObject {
  return fields({ cniVersion: "1.0.0", name: "net-a", type, ...extra });
}
