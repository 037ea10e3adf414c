import type { CniResult } from "#cni/result.ts";
import { createIpvlan, IpvlanFlag, IpvlanMode } from "#kernel/child-link.ts";
import { readLinkDetails, removeLink } from "#kernel/link.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { ifNameProblem, parseIfName } from "#net/ifname.ts";
import { removeContainerLink, setUpContainerLink } from "#plugins/container-link.ts";
import { Attempts } from "#plugins/departing.ts";
import type { Addition, Checking, InterfaceDriver, Making } from "#plugins/interface-driver.ts";
import { interfacePlugin } from "#plugins/interface-plugin.ts";
import { attachmentProblems } from "#plugins/interface-problems.ts";
import { refuseMtuAbove } from "#plugins/mtu.ts";
import {
  ensureParent,
  type ParentConfig,
  parentProblems,
  parentStatus,
  planParent,
  releaseParent,
} from "#plugins/parent-link.ts";
import { sweepSharedLinks } from "#plugins/shared-link.ts";
import type { SuitePlugin } from "#plugins/upkeep.ts";
import { type IpvlanConfig, invalid, parseIpvlanConfig, what } from "./config.ts";
import { decodeMade, encodeMade, type Made } from "./made.ts";
import { claimMode, releaseMode, sweepModes } from "./shared-mode.ts";

const driver: InterfaceDriver<IpvlanConfig, Made> = {
  name: "ipvlan",
  parse: parseIpvlanConfig,
  encodeMade,
  decodeMade,

  plan({ config, container, key, host, request }: Addition<IpvlanConfig>) {
    const { mode, flag, ipamType } = config;
    const { prevResult } = request.config;
    if (ipamType === undefined && (prevResult?.ips.length ?? 0) === 0) {
      throw invalid('"ipam" is missing: an ipvlan needs addresses, or a previous result that has some');
    }
    const parent = planParent(chained(config.parent, prevResult), { host, container, network: key.network });
    return { parent, mode, flag };
  },

  async connect(work: Making<IpvlanConfig, Made>) {
    const { config, made, key, ifName, container, host, undo } = work;
    const user = { key, plugin: "ipvlan" };
    await claimMode(made, host, { user, undo });
    const parent = await ensureParent(made.parent, { host, container, network: key.network, user, undo });
    refuseMtuAbove(parent, config.mtu, what);
    createIpvlan(made.parent.inContainer ? container : host.kernel.namespace, {
      name: ifName,
      parent,
      namespace: container,
      mode: made.mode,
      flag: made.flag,
      ...(config.mtu === undefined ? {} : { mtu: config.mtu }),
    });
    undo.push(`link ${JSON.stringify(ifName)}`, async () => void (await removeLink(container, ifName)));
    crashPoint("ipvlan-made");
  },

  async configure(work, ipam) {
    const { config, request } = work;
    const { ipamType, duplicateAddressDetection } = config;
    const given = ipam ?? request.config.prevResult;
    return await setUpContainerLink(work, given, {
      what,
      ipamType,
      // Where the host routes, nobody is asked.
      duplicateAddressDetection: duplicateAddressDetection && work.made.mode === "l2",
      dns: config.dns ?? given?.dns ?? {},
      // The MAC address says nothing of who has an address, and can't be set to announce it.
      addressesFirst: true,
    });
  },

  problems(work) {
    const { config, key, container, host, made } = work;
    const { link, problems } = attachmentProblems(work, "ipvlan");
    const surroundings = { host, container, network: key.network };
    const parent =
      made?.parent ?? (config.parent.master ? planParent(config.parent, surroundings) : undefined);
    return [
      ...problems,
      ...(link?.kind === "ipvlan" ? modeProblems(work) : []),
      ...(parent ? parentProblems(parent, link, surroundings) : []),
    ];
  },

  async remove(departing, made, host) {
    const user = { key: departing.key, plugin: "ipvlan" };
    const attempts = new Attempts();
    await attempts.attempt(async () => void (await removeContainerLink(departing, host, "ipvlan")));
    if (made) {
      await attempts.attempt(() => releaseParent(made.parent, host, user));
      await attempts.attempt(() => releaseMode(made, host, user));
    }
    attempts.throwIfAny(departing.key);
  },

  sweep: (host) => [(network) => sweepSharedLinks(host, network), (network) => sweepModes(host, network)],

  status: (config, host) => parentStatus(config.parent, host),
};

/** The master that the previous plugin has made, where none is named. */
function chained(parent: ParentConfig, prevResult: CniResult | undefined): ParentConfig {
  if (parent.master !== undefined || parent.internal || !prevResult) return parent;
  const [only, ...others] = prevResult.interfaces;
  if (!only || others.length > 0 || ifNameProblem(only.name)) {
    throw invalid("chained master failure. PrevResult lacks a single named interface");
  }
  return { ...parent, master: parseIfName(only.name) };
}

function modeProblems({ config, made, ifName, container }: Checking<IpvlanConfig, Made>): readonly string[] {
  const { mode = IpvlanMode.l2, flags = 0 } = readLinkDetails(container, ifName)?.ipvlan ?? {};
  const { mode: wanted, flag } = made ?? config;
  const name = JSON.stringify(ifName);
  const nameOf = (all: object, value: number) =>
    Object.entries(all).find(([, number]) => number === value)?.[0] ?? String(value);
  return [
    ...(mode === IpvlanMode[wanted]
      ? []
      : [`container interface ${name} has mode ${nameOf(IpvlanMode, mode)} instead of ${wanted}`]),
    ...(flags === IpvlanFlag[flag]
      ? []
      : [`container interface ${name} has flag ${nameOf(IpvlanFlag, flags)} instead of ${flag}`]),
  ];
}

/** Gives each container an interface with IP addresses of its own behind the MAC address of a link of the host. */
export const ipvlan: SuitePlugin = interfacePlugin(driver);
