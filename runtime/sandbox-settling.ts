import { messageOf } from "#cni/error-causes.ts";
import { ChainFailure } from "./chain.ts";
import {
  chooseHostPorts,
  type EphemeralPorts,
  type PortKey,
  portKey,
  readEphemeralPorts,
} from "./host-ports.ts";
import { PluginFailure } from "./plugin-call.ts";
import { placePorts } from "./port-placement.ts";
import { type PortRequest, settledPort } from "./port-request.ts";
import { SandboxFailure } from "./sandbox-failure.ts";
import type { Attached, SandboxParts } from "./sandbox-parts.ts";
import { type MadeAttachment, planSandbox, type RoutePlan, type SandboxPlan } from "./sandbox-plan.ts";
import type { SandboxAttachment, SandboxRecord } from "./sandbox-record.ts";

/** How often a port of the host that nobody asked for by number is chosen anew. */
const maxPortTries = 16;

export interface SettleOptions {
  /** Publishes also what is recorded as published. */
  readonly again?: boolean;
  /** An attachment that is about to go. */
  readonly leaving?: SandboxAttachment;
}

export interface Settled {
  /** With the ports of the host that they have now. */
  readonly ports: readonly PortRequest[];
  readonly unpublished: readonly PortRequest[];
}

/**
 * Makes the sandbox's routes and published ports what follows from its attachments. Idempotent.
 * @throws {ChainFailure} a port is taken, or a plugin failed
 */
export async function settleSandbox(
  parts: SandboxParts,
  record: SandboxRecord,
  attached: readonly Attached[],
  options: SettleOptions = {},
): Promise<Settled> {
  const made = attached.map((each) => ({
    ...describe(each),
    isLeaving: each.attachment === options.leaving,
  }));
  parts.routing.apply(record.netns, planSandbox(made, []).routes);
  if (record.ports.length === 0) return { ports: [], unpublished: [] };
  if (planSandbox(made, probePorts(record.ports)).portMappings.every((each) => each.length === 0)) {
    await place(parts, attached, planSandbox(made, []), options);
    return { ports: record.ports, unpublished: record.ports };
  }
  const isOpen = record.ports.some((port) => settledPort(port) === undefined);
  const ephemeral = isOpen ? await readEphemeralPorts() : { span: { first: 1, last: 1 }, reserved: [] };
  const avoided = isOpen ? await portsOfOthers(parts, record.name) : new Set<PortKey>();
  for (let tried = 1; ; tried++) {
    const ports = choose(record, ephemeral, avoided);
    const plan = planSandbox(made, ports);
    try {
      await place(parts, attached, plan, options);
      return { ports, unpublished: plan.unpublished };
    } catch (error) {
      const taken = takenPort(error, ports, record.ports);
      if (taken === undefined || tried === maxPortTries) throw error;
      avoided.add(taken);
    }
  }
}

/** How a sandbox with these attachments routes. */
export function plannedRoutes(attached: readonly Attached[]): RoutePlan {
  return planSandbox(attached.map(describe), []).routes;
}

/** Keeps what the attachments there are send on their own ways, while another one brings its default route along. */
export function pinRoutes(parts: SandboxParts, record: SandboxRecord, attached: readonly Attached[]): void {
  parts.routing.apply(record.netns, planSandbox(attached.map(describe), [], { bySource: true }).routes);
}

function describe({ attachment, list, result }: Attached): MadeAttachment {
  const { network, ifName, gatewayPriority: priority } = attachment;
  return { network, ifName, priority, plugins: list.plugins.map(({ json }) => json), result };
}

/** With some number, to see who would publish them. */
function probePorts(ports: readonly PortRequest[]): readonly PortRequest[] {
  return ports.map((port) => ({ ...port, hostPort: settledPort(port) ?? 1 }));
}

async function place(
  parts: SandboxParts,
  attached: readonly Attached[],
  { portMappings }: SandboxPlan,
  options: SettleOptions,
): Promise<void> {
  const places = attached.map(({ cached, list }, index) => ({
    cached,
    list,
    portMappings: portMappings[index] ?? [],
  }));
  await placePorts(places, parts.host, options);
}

function choose(
  { name, ports }: SandboxRecord,
  ephemeral: EphemeralPorts,
  avoided: ReadonlySet<PortKey>,
): readonly PortRequest[] {
  const chosen = chooseHostPorts(ports, ephemeral, avoided);
  if (chosen !== undefined) return chosen;
  throw new SandboxFailure(`Cannot publish the ports of sandbox ${name}: all ports are allocated`);
}

/** What the records of other sandboxes say, so that the first choice is a good one. Damaged ones say nothing. */
async function portsOfOthers(parts: SandboxParts, name: string): Promise<Set<PortKey>> {
  const taken = new Set<PortKey>();
  for (const other of await parts.records.names()) {
    if (other === name) continue;
    const record = await parts.records.read(other).catch(() => undefined);
    for (const port of record?.ports ?? []) {
      const number = settledPort(port);
      if (number !== undefined) taken.add(portKey(port, number));
    }
  }
  return taken;
}

/** portmap's code for a port that is somebody's. */
const portTakenCode = 100;

/** The port that was refused, if it was one of our own choice: then there are others. */
function takenPort(
  error: unknown,
  ports: readonly PortRequest[],
  requested: readonly PortRequest[],
): PortKey | undefined {
  const failure = error instanceof ChainFailure ? (error.errors as readonly unknown[])[0] : undefined;
  if (!(failure instanceof PluginFailure) || Number(failure.code) !== portTakenCode) return undefined;
  const [, number, protocol] = /:(\d+)\/(tcp|udp|sctp)/.exec(messageOf(failure)) ?? [];
  const index = ports.findIndex((port) => String(port.hostPort) === number && port.protocol === protocol);
  const own = ports[index];
  const asked = requested[index];
  if (own?.hostPort === undefined || asked === undefined || settledPort(asked) !== undefined)
    return undefined;
  return portKey(own, own.hostPort);
}
