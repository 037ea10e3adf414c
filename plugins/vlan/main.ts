import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import { goObject } from "#cni/schema.ts";
import { int } from "#cni/schema-values.ts";
import type { Json } from "#journal/record.ts";
import { createVlan } from "#kernel/child-link.ts";
import { readLinkDetails, removeLink } from "#kernel/link.ts";
import { ParentRefusedError } from "#kernel/link-error.ts";
import { crashPoint } from "#machine/crash-point.ts";
import { removeContainerLink, setUpContainerLink } from "#plugins/container-link.ts";
import type { PluginHost } from "#plugins/context.ts";
import { Attempts, intact } from "#plugins/departing.ts";
import type { Checking, InterfaceDriver } from "#plugins/interface-driver.ts";
import { interfacePlugin } from "#plugins/interface-plugin.ts";
import { attachmentProblems } from "#plugins/interface-problems.ts";
import { refuseMtuAbove } from "#plugins/mtu.ts";
import {
  ensureParent,
  parentProblems,
  parentSchema,
  parentStatus,
  planParent,
  releaseParent,
} from "#plugins/parent-link.ts";
import { sweepSharedLinks } from "#plugins/shared-link.ts";
import type { SuitePlugin } from "#plugins/upkeep.ts";
import { parseVlanConfig, type VlanConfig, what } from "./config.ts";

const madeSchema = goObject({ parent: parentSchema, vlanId: int() });

/** What the journal keeps of an attachment. */
type Made = v.InferOutput<typeof madeSchema>;

const driver: InterfaceDriver<VlanConfig, Made> = {
  name: "vlan",
  parse: parseVlanConfig,
  encodeMade: (made) => made,
  decodeMade,

  plan: ({ config, container, key, host }) => ({
    parent: planParent({ ...config, internal: false }, { host, container, network: key.network }),
    vlanId: config.vlanId,
  }),

  async connect(work) {
    const { config, made, key, ifName, container, host, undo } = work;
    const user = { key, plugin: "vlan" };
    const parent = await ensureParent(made.parent, { host, container, network: key.network, user, undo });
    refuseMtuAbove(parent, config.mtu, what);
    try {
      createVlan(made.parent.inContainer ? container : host.kernel.namespace, {
        name: ifName,
        parent,
        namespace: container,
        id: made.vlanId,
        ...(config.mtu === undefined ? {} : { mtu: config.mtu }),
      });
    } catch (error) {
      throw error instanceof ParentRefusedError ? named(error, made, host) : error;
    }
    undo.push(`link ${JSON.stringify(ifName)}`, async () => void (await removeLink(container, ifName)));
    crashPoint("vlan-made");
  },

  async configure(work, ipam) {
    const { ipamType, duplicateAddressDetection, dns = ipam?.dns ?? {} } = work.config;
    return await setUpContainerLink(work, ipam, { what, ipamType, duplicateAddressDetection, dns });
  },

  problems(work) {
    const { config, key, container, host, made } = work;
    const { link, problems } = attachmentProblems(work, "vlan");
    const surroundings = { host, container, network: key.network };
    const parent = made?.parent ?? planParent({ ...config, internal: false }, surroundings);
    return [
      ...problems,
      ...(link?.kind === "vlan" ? idProblems(work) : []),
      ...parentProblems(parent, link, surroundings),
    ];
  },

  async remove(departing, made, host) {
    const user = { key: departing.key, plugin: "vlan" };
    const attempts = new Attempts();
    await attempts.attempt(async () => void (await removeContainerLink(departing, host, "vlan")));
    if (made) await attempts.attempt(() => releaseParent(made.parent, host, user));
    attempts.throwIfAny(departing.key);
  },

  sweep: (host) => [(network) => sweepSharedLinks(host, network)],

  status: (config, host) => parentStatus({ ...config, internal: false }, host),
};

function decodeMade(made: Json): Made | undefined {
  const outcome = v.safeParse(madeSchema, made);
  return outcome.success ? outcome.output : undefined;
}

/** A link has one interface for a VLAN, wherever that is: says whose it is, if it is a container's. */
function named(error: ParentRefusedError, { parent, vlanId }: Made, host: PluginHost): unknown {
  if (parent.inContainer) return error;
  for (const record of host.journal.list()) {
    const other =
      record.plugin === "vlan" && intact(record) ? decodeMade(intact(record)?.made ?? null) : undefined;
    if (other?.vlanId !== vlanId || other.parent.name !== parent.name || record.phase !== "done") continue;
    const { containerId, ifName, network } = record.key;
    return new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot create VLAN ${vlanId} on ${JSON.stringify(parent.name)}: container ${JSON.stringify(containerId)} (${ifName}, network ${JSON.stringify(network)}) has it`,
      { cause: error },
    );
  }
  return error;
}

function idProblems({ config, ifName, container }: Checking<VlanConfig, Made>): readonly string[] {
  const id = readLinkDetails(container, ifName)?.vlan?.id;
  return id === config.vlanId
    ? []
    : [`container interface ${JSON.stringify(ifName)} has VLAN ID ${id} instead of ${config.vlanId}`];
}

/** Gives a container what is tagged with one VLAN on a link of the host. */
export const vlan: SuitePlugin = interfacePlugin(driver);
