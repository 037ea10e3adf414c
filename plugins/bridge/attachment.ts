import { CniError, ErrorCode } from "#cni/error.ts";
import type { CniDns, CniIp, CniResult, CniRoute } from "#cni/result.ts";
import type { AttachmentKey } from "#journal/record.ts";
import type { BridgePortSpec, BridgeSpec } from "#kernel/bridge.ts";
import type { InterfaceSpec } from "#kernel/interface.ts";
import {
  type Cidr,
  containsIp,
  firstIp,
  formatCidr,
  isDefaultRoute,
  overlaps,
  parseCidr,
} from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import { addToIp, equalIp, formatIp, type IpAddress, ipBits, isLinkLocal } from "#net/ip.ts";
import type { MacAddress } from "#net/mac.ts";
import type { FixedSource } from "#nftables/masquerade.ts";
import type { NetworkPolicy } from "#nftables/network-policy.ts";
import {
  familiesOf,
  isOfOneHost,
  refuseMtuBelowIpv6,
  refuseUnreachableRoutes,
  refuseUnusableAddresses,
  refuseWithoutAddress,
  routesForKernel,
  unusable,
} from "#plugins/ip-configuration.ts";
import type { BridgeConfig } from "./config.ts";
import type { IsolationConfig } from "./isolation-config.ts";
import { vlanGatewayName, vlanGatewayPortName } from "./names.ts";

/**
 * Everything that one ADD makes, as a value: ADD makes the host so, CHECK compares the host with it, and DEL
 * finds what to remove in it. It follows from the request alone; nothing here asks the kernel.
 */
export interface Attachment {
  readonly key: AttachmentKey;
  readonly bridge: BridgeSpec;
  /** Undefined without `isGateway`, or where there are no addresses to be the gateway of. */
  readonly gateway?: GatewaySpec;
  readonly hostVeth: { readonly name: IfName; readonly mac: MacAddress };
  readonly port: BridgePortSpec;
  readonly container: { readonly name: IfName; readonly mac: MacAddress; readonly up: boolean };
  /** Of both ends of the veth; undefined: the kernel's default. */
  readonly mtu?: number;
  readonly interface: InterfaceSpec;
  /** Families between whose interfaces the host has to forward packets. */
  readonly forwarding: readonly (4 | 6)[];
  /** Addresses that leave the host under one of its own, each with the prefix length of its subnet. */
  readonly masquerade: readonly Cidr[];
  readonly masqueradeBackend: "nftables" | "iptables";
  /** Of those, the ones that leave under a fixed address, and under which. */
  readonly snat: readonly FixedSource[];
  readonly macSpoofCheck: boolean;
  /** What the container may call itself; undefined: whatever it likes. */
  readonly ownAddresses?: readonly IpAddress[];
  /** The interface by which the host routes to the containers. */
  readonly device: IfName;
  /** What holds for everybody behind it. */
  readonly policy: NetworkPolicy;
  /** As the result shows them: gateways filled in. */
  readonly ips: readonly CniIp[];
  readonly routes: readonly CniRoute[];
  readonly dns: CniDns;
}

/** Where the gateway's addresses are: on the bridge itself, or on a veth in the VLAN of the containers. */
export interface GatewaySpec {
  readonly addresses: readonly Cidr[];
  /** Replace an address of the host that contradicts one of `addresses`, instead of refusing. */
  readonly replace: boolean;
  /** Addresses of other subnets contradict nothing, in IPv4 either. */
  readonly severalSubnets: boolean;
  readonly vlan?: VlanGatewaySpec;
}

export interface VlanGatewaySpec {
  readonly id: number;
  /** Interface in the host that has the addresses. */
  readonly name: IfName;
  /** Its other end, which is a port of the bridge. */
  readonly portName: IfName;
}

export interface AttachmentInput {
  readonly config: BridgeConfig;
  readonly key: AttachmentKey;
  /** The container's interface, CNI_IFNAME. */
  readonly ifName: IfName;
  readonly hostVeth: IfName;
  /** Chosen by the caller; `config.mac` wins over `macs.container`. */
  readonly macs: { readonly host: MacAddress; readonly container: MacAddress };
  /** Undefined where the network has no IPAM (layer 2 only). */
  readonly ipam: CniResult | undefined;
}

/**
 * Works out what has to be made.
 * @throws {CniError} 7 where the IPAM plugin's answer and the configuration don't fit together
 */
export function describeAttachment(input: AttachmentInput): Attachment {
  const { config, ipam } = input;
  refuseWithoutAddress(ipam, config.ipamType);
  const ips = (ipam?.ips ?? []).map((ip) => completeIp(ip, config));
  refuseUnusableAddresses(ips, config.ipamType);
  refuseUnusableGateways(ips, config);
  const routes = completeRoutes(ipam?.routes ?? [], ips, config);
  const kernelRoutes = routesForKernel(routes, ips);
  refuseUnreachableRoutes(kernelRoutes, ips);
  const families = familiesOf(ips);
  refuseMtuBelowIpv6(config.mtu, ips, "bridge configuration");
  const usesVlans = config.vlan !== undefined || config.vlanTrunk.length > 0;
  const gateway = describeGateway(ips, config);
  const { isolation } = config;
  const masquerade = config.masquerade === undefined ? [] : leaving(ips, isolation);
  return {
    key: input.key,
    bridge: {
      name: config.bridge,
      ...(config.mtu === undefined ? {} : { mtu: config.mtu }),
      vlanFiltering: usesVlans,
      promiscuous: config.promiscuous,
    },
    ...(gateway === undefined ? {} : { gateway }),
    hostVeth: { name: input.hostVeth, mac: input.macs.host },
    port: {
      hairpin: config.hairpin,
      isolated: config.portIsolation || !isolation.icc,
      ...(usesVlans
        ? {
            vlans: {
              // A trunk port without VLAN of its own takes untagged frames for the bridge's default VLAN.
              untagged: config.vlan ?? 1,
              tagged: config.vlanTrunk,
              keepOthers: config.preserveDefaultVlan,
            },
          }
        : {}),
    },
    container: {
      name: input.ifName,
      mac: config.mac ?? input.macs.container,
      up: config.containerInterfaceUp,
    },
    ...(config.mtu === undefined ? {} : { mtu: config.mtu }),
    interface: {
      addresses: ips.map(({ address }) => address),
      routes: kernelRoutes,
      duplicateAddressDetection: config.duplicateAddressDetection,
      // Where the host is the router, whoever else says to be one is an impostor.
      routerAdvertisements: !config.isGateway && !isolation.internal,
    },
    forwarding: (config.isGateway || config.masquerade !== undefined) && !isolation.internal ? families : [],
    masquerade,
    masqueradeBackend: config.masquerade ?? "nftables",
    snat: masquerade.flatMap(({ address }) => {
      const to = isolation.snat[address.family];
      return to ? [{ address, to }] : [];
    }),
    macSpoofCheck: config.macSpoofCheck,
    ...(config.ipSpoofCheck ? { ownAddresses: ips.map(({ address }) => address.address) } : {}),
    device: deviceOf(config),
    policy: describePolicy(isolation),
    ips,
    routes,
    dns: config.dns ?? ipam?.dns ?? {},
  };
}

/** The interface by which the host routes to the containers. */
export function deviceOf({ bridge, isGateway, vlan }: BridgeConfig): IfName {
  return isGateway && vlan !== undefined ? vlanGatewayName(bridge, vlan) : bridge;
}

/** What holds for everybody in the network. */
export function describePolicy(isolation: IsolationConfig): NetworkPolicy {
  const { internal, icc, networkIsolation, gatewayMode, trustedInterfaces } = isolation;
  return {
    internal,
    icc,
    isolated: networkIsolation,
    access: { 4: accessOf[gatewayMode[4]], 6: accessOf[gatewayMode[6]] },
    trusted: trustedInterfaces,
  };
}

const accessOf = {
  open: "open",
  nat: "protected",
  "nat-unprotected": "open",
  routed: "routed",
  isolated: "isolated",
} as const;

/** Addresses whose packets get another source on their way out. */
function leaving(ips: readonly CniIp[], { internal, gatewayMode }: IsolationConfig): readonly Cidr[] {
  if (internal) return [];
  return ips
    .map(({ address }) => address)
    .filter(({ address: { family } }) => gatewayMode[family] !== "routed");
}

/** What the host can't be the gateway with. */
function refuseUnusableGateways(ips: readonly CniIp[], config: BridgeConfig): void {
  if (!config.isGateway) return;
  for (const { address: cidr, gateway } of ips) {
    const { address } = cidr;
    if (gateway === undefined) continue;
    const refuse = (why: string) => {
      throw unusable(`gateway ${formatIp(gateway)}`, why, config.ipamType);
    };
    if (!isOfOneHost(gateway)) refuse("it is none that one host can have");
    if (ips.some((other) => equalIp(other.address.address, gateway))) {
      refuse("it is the container's own address");
    }
    const isAlone = cidr.prefixLength === ipBits(address.family);
    const isLocal = gateway.family === address.family && isLinkLocal(gateway);
    if (!isAlone && !isLocal && !containsIp(cidr, gateway)) {
      refuse(`it is not in the subnet of ${formatCidr(cidr)}`);
    }
    // The host would look for everything behind the bridge that it has no other route to.
    if (cidr.prefixLength === 0) refuse(`the subnet of ${formatCidr(cidr)} is all there is`);
  }
}

function completeIp(ip: CniIp, config: BridgeConfig): CniIp {
  const { family } = ip.address.address;
  const hasGateway = config.isolation.gatewayMode[family] !== "isolated";
  const derived = () => (config.isGateway ? firstHost(ip.address, config) : undefined);
  const gateway = hasGateway ? (ip.gateway ?? derived()) : undefined;
  return { interface: containerIndex, address: ip.address, ...(gateway === undefined ? {} : { gateway }) };
}

/** Places in the result's list of interfaces. */
export const containerIndex = 2;

function firstHost(cidr: Cidr, config: BridgeConfig): IpAddress {
  try {
    return addToIp(firstIp(cidr), 1);
  } catch (cause) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot derive a gateway for bridge ${JSON.stringify(config.bridge)}: ${formatCidr(cidr)} has no address after its first`,
      { cause },
    );
  }
}

/**
 * IPAM's routes, and with `isDefaultGateway` one default route of each family that has none with a gateway; without any
 * default route in an internal network.
 */
function completeRoutes(
  routes: readonly CniRoute[],
  ips: readonly CniIp[],
  config: BridgeConfig,
): readonly CniRoute[] {
  if (config.isolation.internal) return routes.filter(({ dst }) => !isDefaultRoute(dst));
  if (!config.isDefaultGateway) return routes;
  const added = ([4, 6] as const).flatMap((family): CniRoute[] => {
    const gw = ips.find(({ address }) => address.address.family === family)?.gateway;
    const isThere = routes.some(
      (route) => route.gw !== undefined && route.dst.address.family === family && isDefaultRoute(route.dst),
    );
    return gw === undefined || isThere ? [] : [{ dst: defaultRoute[family], gw }];
  });
  return [...routes, ...added];
}

const defaultRoute = { 4: parseCidr("0.0.0.0/0"), 6: parseCidr("::/0") } as const;

function describeGateway(ips: readonly CniIp[], config: BridgeConfig): GatewaySpec | undefined {
  if (!config.isGateway || ips.length === 0) return undefined;
  const addresses: Cidr[] = [];
  for (const { address, gateway } of ips) {
    if (gateway === undefined) continue;
    const cidr = { address: gateway, prefixLength: address.prefixLength };
    if (!addresses.some((other) => formatCidr(other) === formatCidr(cidr))) addresses.push(cidr);
  }
  return {
    addresses,
    replace: config.forceAddress,
    severalSubnets: config.severalSubnets,
    ...(config.vlan === undefined
      ? {}
      : {
          vlan: {
            id: config.vlan,
            name: vlanGatewayName(config.bridge, config.vlan),
            portName: vlanGatewayPortName(config.bridge, config.vlan),
          },
        }),
  };
}

/**
 * Which addresses of an interface keep it from being the gateway: any other IPv4 address, unless there are several
 * subnets, and those whose subnet overlaps. Other IPv6 addresses may stand beside ours. Link-local ones never matter,
 * nor, where there are several subnets, single addresses that have none.
 */
export function contradicting(
  present: readonly Cidr[],
  wanted: readonly Cidr[],
  severalSubnets: boolean,
): readonly Cidr[] {
  const wantedText = new Set(wanted.map(formatCidr));
  return present.filter(
    (address) =>
      !wantedText.has(formatCidr(address)) &&
      !(severalSubnets && address.prefixLength === ipBits(address.address.family)) &&
      wanted.some(
        (gateway) =>
          gateway.address.family === address.address.family &&
          ((gateway.address.family === 4 && !severalSubnets) || overlaps(gateway, address)),
      ),
  );
}
