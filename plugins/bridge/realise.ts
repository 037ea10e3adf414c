import { ensureBridge, portMulticastRoute, readBridge, startBridgePort } from "#kernel/bridge.ts";
import { setPortVlans } from "#kernel/bridge-vlan.ts";
import { ensureForwarding } from "#kernel/forwarding.ts";
import { configureInterface, waitForAddresses } from "#kernel/interface.ts";
import { type Link, readEachLink, readLink, removeLink, requireLink } from "#kernel/link.ts";
import type { NetworkNamespace } from "#kernel/namespace.ts";
import type { Undo } from "#kernel/undo.ts";
import { createVeth } from "#kernel/veth.ts";
import { WaitTimeoutError, waitUntil } from "#kernel/wait.ts";
import { crashPoint } from "#machine/crash-point.ts";
import type { PluginHost } from "#plugins/context.ts";
import type { Attachment } from "./attachment.ts";
import { ensureGateway, type Gateway, type SeenAddresses } from "./gateway.ts";

/** The links as the kernel has them when all is made. */
export interface RealisedLinks {
  readonly bridge: Link;
  readonly hostVeth: Link;
  readonly container: Link;
  readonly vlanGateway?: Link;
}

/** The reference's waits add up to 2.55 s; while others hold the kernel's rtnl lock, one look may take as long. */
const portTimeoutMs = 10_000;
const addressTimeoutMs = 5_000;

interface RealiseWork {
  readonly host: PluginHost;
  readonly container: NetworkNamespace;
  /** The bridge, if it was there when the ADD began. */
  readonly present: Link | undefined;
  /** Of the link that is to be the gateway, as they were a moment ago. */
  readonly gatewayAddresses: SeenAddresses | undefined;
  readonly signal: AbortSignal;
  readonly undo: Undo;
}

/** Makes host and container as the attachment says. */
export async function realise(attachment: Attachment, work: RealiseWork): Promise<RealisedLinks> {
  const { host, container, signal, undo } = work;
  const { namespace } = host.kernel;
  const { name } = attachment.hostVeth;
  const { bridge, gateway } = await connect(attachment, work);
  undo.push(`link ${JSON.stringify(name)}`, async () => void (await removeLink(namespace, name)));
  crashPoint("veth-made");
  const port = startBridgePort(namespace, name, attachment.port);
  crashPoint("port-set");
  if (attachment.port.vlans) setPortVlans(namespace, { name, bridge }, attachment.port.vlans);
  crashPoint("port-vlans-set");
  const links = attachment.container.up
    ? await bringUp(attachment, { namespace, container, bridge, port, gateway, signal })
    : {
        bridge,
        hostVeth: port,
        container: requireLink(container, attachment.container.name),
      };
  // Last, as it is for the whole host: what can fail has not failed by now.
  ensureForwarding(namespace, attachment.forwarding, undo);
  return { ...links, ...(attachment.gateway?.vlan && gateway ? { vlanGateway: gateway.link } : {}) };
}

/**
 * Makes the interface alone, up and without addresses: for an IPAM plugin that asks through it. `addAddresses()` does the
 * rest.
 */
export async function realiseLink(attachment: Attachment, work: RealiseWork): Promise<RealisedLinks> {
  const { gateway: _, ...rest } = attachment;
  const bare: Attachment = {
    ...rest,
    forwarding: [],
    interface: { ...attachment.interface, addresses: [], routes: [] },
  };
  return await realise(bare, work);
}

/** Gives the links that `realiseLink()` has made what the attachment has besides. */
export async function addAddresses(
  attachment: Attachment,
  { bridge, hostVeth }: RealisedLinks,
  work: RealiseWork,
): Promise<RealisedLinks> {
  const { host, container, signal, undo } = work;
  const { namespace } = host.kernel;
  const seen = work.gatewayAddresses;
  const gateway = attachment.gateway
    ? await ensureGateway(
        host,
        { namespace, bridge, hostVeth: attachment.hostVeth.name, seen, undo },
        attachment.gateway,
      )
    : undefined;
  const links = await bringUp(attachment, { namespace, container, bridge, port: hostVeth, gateway, signal });
  ensureForwarding(namespace, attachment.forwarding, undo);
  return { ...links, ...(attachment.gateway?.vlan && gateway ? { vlanGateway: gateway.link } : {}) };
}

/**
 * Another ADD that has failed takes the bridge away that it had made, as long as there is no port; so may an operator.
 * Once more, then: whoever does it again and again wants to have none.
 */
const maxAttempts = 3;

async function connect(
  attachment: Attachment,
  work: RealiseWork,
  attempt = 1,
): Promise<{ readonly bridge: Link; readonly gateway: Gateway | undefined }> {
  const { host, container, undo } = work;
  const { namespace } = host.kernel;
  const { name } = attachment.hostVeth;
  let bridge = work.present;
  try {
    bridge = ensureBridge(namespace, attachment.bridge, work.present, undo);
    const gateway = attachment.gateway
      ? await ensureGateway(
          host,
          { namespace, bridge, hostVeth: name, seen: work.gatewayAddresses, undo },
          attachment.gateway,
        )
      : undefined;
    createVeth(namespace, {
      name,
      mac: attachment.hostVeth.mac,
      ...(attachment.mtu === undefined ? {} : { mtu: attachment.mtu }),
      bridge: { ifindex: bridge.ifindex, name: attachment.bridge.name },
      peer: { namespace: container, name: attachment.container.name, mac: attachment.container.mac },
    });
    return { bridge, gateway };
  } catch (error) {
    if (attempt === maxAttempts || !bridge || readLink(namespace, bridge.ifindex)) throw error;
    const present = readBridge(namespace, attachment.bridge.name);
    return await connect(attachment, { ...work, present, gatewayAddresses: undefined }, attempt + 1);
  }
}

async function bringUp(
  attachment: Attachment,
  work: {
    readonly namespace: NetworkNamespace;
    readonly container: NetworkNamespace;
    readonly bridge: Link;
    readonly port: Link;
    readonly gateway: Gateway | undefined;
    readonly signal: AbortSignal;
  },
): Promise<RealisedLinks> {
  const { namespace, container, port, gateway, signal } = work;
  const { name } = attachment.container;
  // A veth's parent is its other end.
  const ifindex = port.parent ?? requireLink(container, name).ifindex;
  const inside = configureInterface(container, { ifindex, name }, attachment.interface);
  crashPoint("interface-configured");
  const [hostVeth, bridge] = await waitForPort(attachment, work);
  crashPoint("port-up");
  const wait = { timeoutMs: addressTimeoutMs, signal };
  await unlessOnlySlow(attachment, async () => {
    await waitForAddresses(container, inside, attachment.interface.addresses, wait);
    if (gateway) await waitForAddresses(namespace, gateway.link, gateway.added, { ...wait, linkLocal: true });
  });
  return { bridge, hostVeth, container: inside };
}

/**
 * Without duplicate address detection there is nothing to find out: from a kernel that is too busy to take the
 * addresses in, the container loses its first packets, which is better than losing the ADD.
 */
async function unlessOnlySlow(attachment: Attachment, wait: () => Promise<void>): Promise<void> {
  try {
    await wait();
  } catch (error) {
    const isSlow = error instanceof WaitTimeoutError && !attachment.interface.duplicateAddressDetection;
    if (!isSlow) throw error;
  }
}

/** Until the port forwards frames. The bridge is read as well: that makes the kernel notice that it has a carrier. */
async function waitForPort(
  attachment: Attachment,
  work: {
    readonly namespace: NetworkNamespace;
    readonly bridge: Link;
    readonly port: Link;
    readonly signal: AbortSignal;
  },
): Promise<readonly [hostVeth: Link, bridge: Link]> {
  const { name } = attachment.hostVeth;
  const { ifindex } = work.bridge;
  return await waitUntil(
    `port ${JSON.stringify(name)} of bridge ${JSON.stringify(attachment.bridge.name)} to come up`,
    () => {
      const [port, bridge] = readEachLink(work.namespace, [name, ifindex], [portMulticastRoute(work.port)]);
      if (!port || !bridge || port.master !== ifindex) {
        throw new Error(
          `Cannot use bridge ${JSON.stringify(attachment.bridge.name)}: somebody has taken away ${bridge ? `its port ${JSON.stringify(name)}` : "the bridge"} meanwhile`,
        );
      }
      return port.operState === "up" ? ([port, bridge] as const) : undefined;
    },
    { timeoutMs: portTimeoutMs, signal: work.signal },
  );
}
