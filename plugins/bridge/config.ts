import * as v from "valibot";
import type { CniArgs } from "#cni/cni-args.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniDns } from "#cni/result.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { emptyAsAbsent, ifName, int, oneOf } from "#cni/schema-values.ts";
import type { VlanRange } from "#kernel/bridge.ts";
import { type IfName, parseIfName } from "#net/ifname.ts";
import type { MacAddress } from "#net/mac.ts";
import { dnsField, ipamField, overridesIpam, requestedMac } from "#plugins/interface-arguments.ts";
import { type IsolationConfig, isolationFields, parseIsolation } from "./isolation-config.ts";
import { vlanGatewayName } from "./names.ts";

/** The network configuration with every default filled in and every contradiction refused. */
export interface BridgeConfig {
  readonly bridge: IfName;
  /** True too where `isDefaultGateway` is. */
  readonly isGateway: boolean;
  readonly isDefaultGateway: boolean;
  readonly forceAddress: boolean;
  /** Other IPv4 addresses of the bridge may stand beside, as IPv6 ones may, where their subnets do not overlap. */
  readonly severalSubnets: boolean;
  /** Undefined: no masquerading. The suite serves both names by nftables, unless `insistOnBackend` is set. */
  readonly masquerade?: "nftables" | "iptables";
  /** Undefined: the kernel's default. */
  readonly mtu?: number;
  readonly hairpin: boolean;
  readonly promiscuous: boolean;
  /** VLAN in which the container's port sends and receives untagged frames. */
  readonly vlan?: number;
  readonly vlanTrunk: readonly VlanRange[];
  readonly preserveDefaultVlan: boolean;
  /** True too where `ipSpoofCheck` is. */
  readonly macSpoofCheck: boolean;
  /** Nothing leaves the container under an IP address that is not its own, by ARP and neighbour discovery neither. */
  readonly ipSpoofCheck: boolean;
  readonly duplicateAddressDetection: boolean;
  readonly portIsolation: boolean;
  /** False for `disableContainerInterface`: the interface is made and stays down. */
  readonly containerInterfaceUp: boolean;
  /** What the container's interface has to have, from whichever channel won. */
  readonly mac?: MacAddress;
  /** Absent: layer 2 only. */
  readonly ipamType?: string;
  readonly isolation: IsolationConfig;
  /** Set where the config's own `dns` replaces that of the IPAM plugin. */
  readonly dns?: CniDns;
}

const flag = v.optional(v.boolean(), false);

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  bridge: emptyAsAbsent(ifName),
  isGateway: flag,
  isDefaultGateway: flag,
  forceAddress: flag,
  severalSubnets: flag,
  ipMasq: flag,
  ipMasqBackend: emptyAsAbsent(oneOf(["iptables", "nftables"])),
  insistOnBackend: flag,
  mtu: v.optional(int({ min: 0, max: 65535 }), 0),
  hairpinMode: flag,
  promiscMode: flag,
  vlan: v.optional(int(), 0),
  vlanTrunk: v.optional(
    v.array(goObject({ id: v.optional(int()), minID: v.optional(int()), maxID: v.optional(int()) })),
    [],
  ),
  preserveDefaultVlan: flag,
  macspoofchk: flag,
  ipspoofchk: flag,
  enabledad: flag,
  disableContainerInterface: flag,
  portIsolation: flag,
  ...isolationFields,
  ipam: ipamField,
  dns: dnsField,
});

/**
 * @param args CNI_ARGS, for the one key that matters here; none for verbs that have none
 * @throws {CniError} 7 with the field and its value; 4 for CNI_ARGS
 */
export function parseBridgeConfig(network: NetworkConfig, args: CniArgs = []): BridgeConfig {
  const raw = parseConfig(schema, network.json, { what: "bridge configuration" });
  const bridge = raw.bridge ?? parseIfName("cni0");
  const isGateway = raw.isGateway || raw.isDefaultGateway;
  if (raw.mtu !== 0 && raw.mtu < 68) {
    throw invalid(`"mtu" ${raw.mtu}: must be 0 or 68 to 65535`);
  }
  if (raw.hairpinMode && raw.promiscMode) {
    throw invalid(
      'cannot set hairpin mode and promiscuous mode at the same time: "hairpinMode" and "promiscMode" are both true',
    );
  }
  if (raw.vlan < 0 || raw.vlan > 4094) {
    throw invalid(`"vlan" ${raw.vlan}: invalid VLAN ID ${raw.vlan} (must be between 0 and 4094)`);
  }
  if (raw.disableContainerInterface && raw.ipam.type !== "") {
    throw invalid(
      `cannot use IPAM when DisableContainerInterface flag is set: "ipam.type" is ${JSON.stringify(raw.ipam.type)}`,
    );
  }
  const vlan = raw.vlan === 0 ? undefined : raw.vlan;
  if (vlan !== undefined && isGateway) checkVlanGatewayName(bridge, vlan);
  if (raw.ipMasq && raw.insistOnBackend && raw.ipMasqBackend === undefined) {
    throw invalid('"insistOnBackend" true: needs "ipMasqBackend" to say which one');
  }
  if (raw.ipspoofchk && raw.vlanTrunk.length > 0) {
    throw invalid('"ipspoofchk" true: frames of "vlanTrunk" can\'t be checked');
  }
  if (raw.ipspoofchk && raw.ipam.type === "") {
    throw invalid('"ipspoofchk" true: needs "ipam", to know the container\'s addresses');
  }
  const masquerade = raw.insistOnBackend && raw.ipMasqBackend === "iptables" ? "iptables" : "nftables";
  const mac = requestedMac(network, args, { what: "bridge configuration" });
  return {
    bridge,
    isGateway,
    isDefaultGateway: raw.isDefaultGateway,
    forceAddress: raw.forceAddress,
    severalSubnets: raw.severalSubnets,
    ...(raw.ipMasq ? { masquerade } : {}),
    ...(raw.mtu === 0 ? {} : { mtu: raw.mtu }),
    hairpin: raw.hairpinMode,
    promiscuous: raw.promiscMode,
    ...(vlan === undefined ? {} : { vlan }),
    vlanTrunk: parseVlanTrunk(raw.vlanTrunk),
    preserveDefaultVlan: raw.preserveDefaultVlan,
    macSpoofCheck: raw.macspoofchk || raw.ipspoofchk,
    ipSpoofCheck: raw.ipspoofchk,
    duplicateAddressDetection: raw.enabledad,
    portIsolation: raw.portIsolation,
    containerInterfaceUp: !raw.disableContainerInterface,
    isolation: parseIsolation(raw, raw.ipMasq ? masquerade : undefined),
    ...(mac === undefined ? {} : { mac }),
    ...(raw.ipam.type === "" ? {} : { ipamType: raw.ipam.type }),
    ...(raw.dns && overridesIpam(raw.dns) ? { dns: raw.dns } : {}),
  };
}

function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use bridge configuration: ${problem}`);
}

function checkVlanGatewayName(bridge: IfName, vlan: number): void {
  try {
    vlanGatewayName(bridge, vlan);
  } catch {
    const name = `${bridge}.${vlan}`;
    throw invalid(
      `"bridge" ${JSON.stringify(bridge)} with "vlan" ${vlan}: the gateway's interface ${JSON.stringify(name)} would have a name of more than 15 bytes`,
    );
  }
}

interface RawVlanTrunkItem {
  readonly id?: number | undefined;
  readonly minID?: number | undefined;
  readonly maxID?: number | undefined;
}

function parseVlanTrunk(items: readonly RawVlanTrunkItem[]): VlanRange[] {
  return items.flatMap((item, index) => {
    const fail = (problem: string) => invalid(`"vlanTrunk[${index}]" ${JSON.stringify(item)}: ${problem}`);
    const { id, minID, maxID } = item;
    const isVlan = (value: number) => value >= 1 && value <= 4094;
    if (minID !== undefined && !isVlan(minID)) throw fail("incorrect trunk minID parameter");
    if (maxID !== undefined && !isVlan(maxID)) throw fail("incorrect trunk maxID parameter");
    if (minID === undefined && maxID !== undefined) {
      throw fail("minID and maxID should be configured simultaneously, minID is missing");
    }
    if (minID !== undefined && maxID === undefined) {
      throw fail("minID and maxID should be configured simultaneously, maxID is missing");
    }
    if (minID !== undefined && maxID !== undefined && minID > maxID) {
      throw fail("minID is greater than maxID in trunk parameter");
    }
    if (id !== undefined && !isVlan(id)) throw fail("incorrect trunk id parameter");
    if (id === undefined && minID === undefined) throw fail('needs "id", or "minID" and "maxID"');
    return [
      ...(minID !== undefined && maxID !== undefined ? [{ first: minID, last: maxID }] : []),
      ...(id === undefined ? [] : [{ first: id, last: id }]),
    ];
  });
}
