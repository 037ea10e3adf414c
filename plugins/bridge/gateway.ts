import { join } from "node:path";
import { CniError, ErrorCode } from "#cni/error.ts";
import { addAddress, readAddresses, removeAddress } from "#kernel/address.ts";
import { ignoreRouterAdvertisements, skipAddressDetection, startBridgePort } from "#kernel/bridge.ts";
import { setPortVlans } from "#kernel/bridge-vlan.ts";
import { changeLink, type Link, listLinks, readLink, removeLink, requireLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { Undo } from "#kernel/undo.ts";
import { createVeth } from "#kernel/veth.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { withFileLock } from "#machine/lock.ts";
import { type Cidr, equalCidr, formatCidr } from "#net/cidr.ts";
import type { IfName } from "#net/ifname.ts";
import { isLinkLocal } from "#net/ip.ts";
import type { PluginHost } from "#plugins/context.ts";
import { contradicting, type GatewaySpec, type VlanGatewaySpec } from "./attachment.ts";
import { decodeMade } from "./made.ts";

interface GatewayWork {
  readonly namespace: NetworkNamespace;
  readonly bridge: Link;
  /** Of the attachment that needs the gateway. */
  readonly hostVeth: IfName;
  /** From `refuseOtherAddresses()` */
  readonly seen: SeenAddresses | undefined;
  readonly undo: Undo;
}

export interface Gateway {
  /** The bridge, or the interface in the VLAN. */
  readonly link: Link;
  /** Addresses that it had not before. */
  readonly added: readonly Cidr[];
}

/** What a link had a moment ago. */
export interface SeenAddresses {
  readonly ifindex: number;
  readonly addresses: readonly Cidr[];
}

/**
 * Looks, before anything is made or changed, whether the link that is to have the gateway's addresses has others.
 * @returns those that it has; undefined where there is no such link yet
 * @throws {CniError} 7
 */
export function refuseOtherAddresses(
  namespace: NetworkNamespace,
  bridge: Link | undefined,
  gateway: GatewaySpec,
): SeenAddresses | undefined {
  const link = gateway.vlan ? readLink(namespace, gateway.vlan.name) : bridge;
  if (!link) return undefined;
  const addresses = presentAddresses(namespace, link);
  contradictingAddresses(link, addresses, gateway);
  return { ifindex: link.ifindex, addresses };
}

function presentAddresses(namespace: NetworkNamespace, link: Link): readonly Cidr[] {
  return readAddresses(namespace, link.ifindex)
    .map(({ address }) => address)
    .filter(({ address }) => !isLinkLocal(address));
}

/** @returns those to be replaced @throws {CniError} 7 where they are not to be replaced */
function contradictingAddresses(link: Link, present: readonly Cidr[], gateway: GatewaySpec): readonly Cidr[] {
  const inTheWay = contradicting(present, gateway.addresses, gateway.severalSubnets);
  if (inTheWay.length > 0 && !gateway.replace) throw differentAddress(link, gateway.addresses, inTheWay);
  return inTheWay;
}

/**
 * Gives the host the gateway's addresses, on the bridge or on an interface in the containers' VLAN.
 * @throws {CniError} 7 where the bridge has another address
 */
export async function ensureGateway(
  host: PluginHost,
  work: GatewayWork,
  gateway: GatewaySpec,
): Promise<Gateway> {
  const { vlan } = gateway;
  if (vlan === undefined) return { link: work.bridge, added: ensureAddresses(work, work.bridge, gateway) };
  return await withVlanGatewayLock(host, vlan.name, () => {
    const link = ensureVlanInterface(host, work, vlan);
    return { link, added: ensureAddresses(work, link, gateway) };
  });
}

/** @returns those that were missing */
function ensureAddresses(
  { namespace, bridge, seen, undo }: GatewayWork,
  link: Link,
  gateway: GatewaySpec,
): readonly Cidr[] {
  const present = seen?.ifindex === link.ifindex ? seen.addresses : presentAddresses(namespace, link);
  const missing = gateway.addresses.filter((wanted) => !present.some((each) => equalCidr(each, wanted)));
  const inTheWay = contradictingAddresses(link, present, gateway);
  if (missing.length === 0 && inTheWay.length === 0) return [];
  // Others may rely on it by the time that this ADD fails: then it stays, as the bridge itself does.
  const ifUnused = (step: () => void) => () => {
    if (listLinks(namespace, { master: bridge.ifindex }).length === 0 && readLink(namespace, link.ifindex))
      step();
  };
  for (const address of inTheWay) {
    removeAddress(namespace, link.ifindex, address);
    undo.push(
      `address ${formatCidr(address)}`,
      ifUnused(() => void addAddress(namespace, link, address)),
    );
    crashPoint("gateway-address-removed");
  }
  // Of a bridge that was made elsewhere, and of an interface in a VLAN.
  ignoreRouterAdvertisements(namespace, link.name);
  if (missing.some(({ address }) => address.family === 6)) skipAddressDetection(namespace, link.name);
  for (const address of missing) {
    if (!addAddress(namespace, link, address)) continue;
    undo.push(
      `address ${formatCidr(address)}`,
      ifUnused(() => void removeAddress(namespace, link.ifindex, address)),
    );
    crashPoint("gateway-address-added");
  }
  // One that was made elsewhere may take over the MAC address of a port, and its neighbours lose the gateway.
  if (link.kind === "bridge" && link.mac !== undefined) {
    changeLink(namespace, link.ifindex, { mac: link.mac });
  }
  return missing;
}

function differentAddress(link: Link, wanted: readonly Cidr[], present: readonly Cidr[]): CniError {
  const list = (addresses: readonly Cidr[]) => addresses.map(formatCidr).join(", ");
  return new CniError(
    ErrorCode.InvalidNetworkConfig,
    `${JSON.stringify(link.name)} already has an IP address different from ${list(wanted)}`,
    { details: `it has ${list(present)}; "forceAddress": true replaces it` },
  );
}

function ensureVlanInterface(
  host: PluginHost,
  { namespace, bridge, hostVeth, undo }: GatewayWork,
  vlan: VlanGatewaySpec,
): Link {
  const present = readLink(namespace, vlan.name);
  // One that was made here but has no mark yet: its ADD was killed before it was whole.
  if (present && (present.alias === vlanGatewayAlias || !isMadeHere(namespace, vlan))) {
    if (!present.up) changeLink(namespace, present.ifindex, { up: true });
    return present;
  }
  if (!present) {
    createVeth(namespace, {
      name: vlan.portName,
      bridge: { ifindex: bridge.ifindex, name: bridge.name as IfName },
      peer: { namespace, name: vlan.name },
    });
  }
  undo.push(`link ${JSON.stringify(vlan.name)}`, () => removeUnusedVlanGateway(host, vlan, hostVeth));
  crashPoint("vlan-gateway-made");
  startBridgePort(namespace, vlan.portName, { hairpin: false, isolated: false });
  setPortVlans(
    namespace,
    { name: vlan.portName, bridge },
    { untagged: vlan.id, tagged: [], keepOthers: false },
  );
  crashPoint("vlan-gateway-port-set");
  changeLink(namespace, vlan.name, { up: true, alias: vlanGatewayAlias });
  crashPoint("vlan-gateway-up");
  return requireLink(namespace, vlan.name);
}

/** Marks what we have made, so that nobody else's is removed. Set last: what has it is whole. */
const vlanGatewayAlias = "gateway of a netctl bridge network";

/** Its other end has a name that nobody else would come upon. */
function isMadeHere(namespace: NetworkNamespace, vlan: Pick<VlanGatewaySpec, "portName">): boolean {
  return readLink(namespace, vlan.portName) !== undefined;
}

/** Takes the VLAN's interface away when no other attachment than the one with this veth needs it. */
export async function removeUnusedVlanGateway(
  host: PluginHost,
  vlanGateway: VlanGatewaySpec,
  hostVeth: IfName,
): Promise<void> {
  const { namespace } = host.kernel;
  await withVlanGatewayLock(host, vlanGateway.name, async () => {
    const link = isNeededByOthers(host, vlanGateway, hostVeth)
      ? undefined
      : readLink(namespace, vlanGateway.name);
    if (link && (link.alias === vlanGatewayAlias || isMadeHere(namespace, vlanGateway)))
      await removeLink(namespace, link.ifindex);
    crashPoint("vlan-gateway-removed");
  });
}

/** Reads records until one needs it: as a rule the first of the same network does. */
function isNeededByOthers({ journal }: PluginHost, { name }: VlanGatewaySpec, hostVeth: IfName): boolean {
  for (const record of journal.each()) {
    const other = record.plugin === "bridge" ? decodeMade(record) : undefined;
    if (other?.vlanGateway?.name === name && other.hostVeth !== hostVeth) return true;
  }
  return false;
}

/** Whoever makes it has said so in the journal before; whoever removes it looks there: in between nobody may act. */
function withVlanGatewayLock<Value>(
  host: PluginHost,
  name: IfName,
  action: () => Value | Promise<Value>,
): Promise<Value> {
  const path = join(host.directories.run, "locks", `vlan-gateway-${name}`);
  return withFileLock(path, action, { timeoutMs: 10_000 });
}
