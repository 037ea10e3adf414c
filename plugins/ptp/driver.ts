import { CniError, ErrorCode } from "#cni/error.ts";
import { canForward, ensureForwarding } from "#kernel/forwarding.ts";
import { announce, configureInterface, waitForAddresses } from "#kernel/interface.ts";
import { removeLink, requireLink } from "#kernel/link.ts";
import { RouteExistsError, startRoutedEnd } from "#kernel/routed-end.ts";
import { createVeth } from "#kernel/veth.ts";
import { WaitTimeoutError } from "#kernel/wait.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { randomMac } from "#net/mac.ts";
import { describeInterface } from "#plugins/container-link.ts";
import { freeHostVethName } from "#plugins/host-veth.ts";
import type { InterfaceDriver, Making } from "#plugins/interface-driver.ts";
import { interfaceProblems } from "#plugins/interface-problems.ts";
import { iptablesOf, releaseSubnets, removeOrphanElements } from "#plugins/masquerade.ts";
import { type PtpConfig, parsePtpConfig } from "./config.ts";
import { hostEndProblems } from "./host-end.ts";
import { decodeMade, encodeMade, type Made } from "./made.ts";
import { addMasquerade, masqueradeProblems, ownedSets } from "./masquerade.ts";
import { removeAttachment } from "./remove.ts";
import { describeRouting, type Routing } from "./routing.ts";
import { upkeep } from "./upkeep.ts";

export const ptpDriver: InterfaceDriver<PtpConfig, Made> = {
  name: "ptp",
  parse: parsePtpConfig,
  encodeMade,
  decodeMade,

  plan: ({ config, key, host }) => ({
    hostVeth: freeHostVethName(key, host),
    hostMac: randomMac(),
    containerMac: config.mac ?? randomMac(),
    masquerade: [],
    masqueradeBackend: config.masquerade ?? "nftables",
  }),

  async connect({ config, made, ifName, container, host, undo }) {
    const { namespace } = host.kernel;
    const { hostVeth: name } = made;
    // Only a leftover of this very attachment can be there: see `freeHostVethName()`.
    await removeLink(namespace, name);
    createVeth(namespace, {
      name,
      mac: made.hostMac,
      ...(config.mtu === undefined ? {} : { mtu: config.mtu }),
      down: true,
      peer: { namespace: container, name: ifName, mac: made.containerMac },
    });
    undo.push(`link ${JSON.stringify(name)}`, async () => void (await removeLink(namespace, name)));
    crashPoint("veth-made");
  },

  async configure(work, ipam) {
    const { config, key, made, request, host, undo } = work;
    const routing = describeRouting(ipam ?? { ips: [], routes: [] }, config);
    if (config.masquerade !== undefined) {
      work.amend({ ...made, masquerade: [...routing.container.addresses] });
      // Before anything can be sent: the first packet finds the rules in place.
      await addMasquerade(work.made, { key, host, environment: request.environment, undo });
    }
    const links = await bringUp(work, routing);
    // Last, as it is for the whole host: what can fail has not failed by now.
    ensureForwarding(host.kernel.namespace, routing.families, undo);
    const interfaces = [
      describeInterface(links.hostVeth),
      describeInterface(links.container, request.netns.path),
    ];
    return { interfaces, ips: routing.ips, routes: routing.routes, dns: config.dns ?? ipam?.dns ?? {} };
  },

  async problems({ config, key, ifName, container, request, host, made, checked }) {
    const routing = describeRouting(checked.own, config);
    const { link, problems } = interfaceProblems(container, {
      name: ifName,
      kind: "veth",
      up: true,
      mac: checked.inside?.mac,
      addresses: routing.container.addresses,
      routes: routing.container.routes,
    });
    const { namespace } = host.kernel;
    const { prevResult } = request;
    return [
      ...problems,
      ...hostEndProblems(namespace, { made, prevResult, inside: link, routing }),
      ...(made ? await masqueradeProblems(made, { key, host, environment: request.environment }) : []),
    ];
  },

  remove: removeAttachment,
  upkeep,

  sweep: (host) => [
    (network, valid) => removeOrphanElements(host, network, valid, ownedSets),
    () => releaseSubnets(host),
  ],

  async status(config, host, request) {
    if (config.masquerade === "nftables") await host.nftables.usable();
    if (config.masquerade === "iptables") await (await iptablesOf(host, request.environment)).usable([4]);
    const { namespace } = host.kernel;
    // Which families there will be, only the IPAM plugin knows; without IPv4 there may be IPv6.
    if (canForward(namespace, 4) || canForward(namespace, 6)) return;
    throw new CniError(
      ErrorCode.PluginNotAvailable,
      "Cannot forward packets: net.ipv4.ip_forward is 0, and /proc/sys is read-only",
    );
  },
};

const addressTimeoutMs = 5_000;

async function bringUp(
  { made, ifName, container, request, host }: Making<PtpConfig, Made>,
  routing: Routing,
) {
  const { namespace } = host.kernel;
  const hostVeth = startHostEnd();
  crashPoint("host-end-up");
  const { ifindex } = requireLink(container, ifName);
  const inside = configureInterface(
    container,
    { ifindex, name: ifName },
    { ...routing.container, duplicateAddressDetection: false, pointToPoint: true },
  );
  crashPoint("interface-configured");
  const wait = { timeoutMs: addressTimeoutMs, signal: request.signal };
  try {
    await waitForAddresses(container, inside, routing.container.addresses, wait);
    await waitForAddresses(namespace, hostVeth, routing.host.addresses, { ...wait, linkLocal: true });
  } catch (error) {
    // From a kernel that is too busy to take the addresses in, the container loses its first packets, no more.
    if (!(error instanceof WaitTimeoutError)) throw error;
  }
  announce(container, inside);
  return { hostVeth: requireLink(namespace, made.hostVeth), container: inside };

  function startHostEnd() {
    try {
      return startRoutedEnd(namespace, made.hostVeth, routing.host);
    } catch (error) {
      if (!(error instanceof RouteExistsError)) throw error;
      throw new CniError(ErrorCode.InvalidNetworkConfig, error.message, { cause: error });
    }
  }
}
