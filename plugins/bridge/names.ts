import type { AttachmentKey } from "#journal/record.ts";
import { sha256Hex } from "#machine/sha256.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";

/**
 * The veth's end in the host: "veth" and 8 hex digits, as with the reference plugin, but derived, so that it can
 * be found again without any record. `attempt` gives another name where two attachments derive the same.
 */
export function hostVethName(key: AttachmentKey, attempt = 0): IfName {
  const words = [key.network, key.containerId, key.ifName, ...(attempt === 0 ? [] : [String(attempt)])];
  const hash = sha256Hex(JSON.stringify(words));
  return parseIfName(`veth${hash.slice(0, 8)}`);
}

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
