import { sha256Hex } from "#machine/sha256.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";

/**
 * The interface that holds a VLAN's gateway address in the host: `cni0.100`, as with the reference plugin.
 * @throws {RangeError} longer than an interface name may be
 */
export function vlanGatewayName(bridge: IfName, vlan: number): IfName {
  return parseIfName(`${bridge}.${vlan}`);
}

/** The other end of that veth, a port of the bridge. */
export function vlanGatewayPortName(bridge: IfName, vlan: number): IfName {
  const hash = sha256Hex(JSON.stringify(["vlan gateway", bridge, vlan]));
  return parseIfName(`veth${hash.slice(0, 8)}`);
}
