import { field, isJsonObject, type JsonObject } from "#cni/json.ts";
import type { CniResult, CniRoute } from "#cni/result.ts";
import { type Cidr, isDefaultRoute } from "#net/cidr.ts";
import { tryParseIp } from "#net/ip.ts";
import { electGateway } from "./gateway-election.ts";
import { type PortRequest, settledPort } from "./port-request.ts";

type Family = 4 | 6;
const families: readonly Family[] = [4, 6];

/** An attachment as it is made, with what its network's configuration says of it. */
export interface MadeAttachment {
  readonly network: string;
  readonly ifName: string;
  readonly priority: number;
  /** The configurations of the network's plugins, as they were at the ADD. */
  readonly plugins: readonly JsonObject[];
  readonly result: CniResult;
  /** It is about to go: neither gateway nor ports are its any more. */
  readonly isLeaving?: boolean;
}

/** How the namespace of a sandbox with several networks has to route. */
export interface RoutePlan {
  readonly links: readonly PlannedLink[];
  /** What an interface's own addresses send leaves by that interface's gateway, whichever is the default one. */
  readonly bySource: boolean;
}

export interface PlannedLink {
  readonly ifName: string;
  readonly addresses: readonly Cidr[];
  /** Routes of its own, the default ones among them. */
  readonly routes: readonly CniRoute[];
  /** Families whose default gateway it has. */
  readonly gatewayOf: readonly Family[];
}

export interface SandboxPlan {
  readonly routes: RoutePlan;
  /** `portMappings` of each attachment, in their order. */
  readonly portMappings: readonly (readonly JsonObject[])[];
  /** Requests that no attachment serves: no network leads outside, or none of them can publish ports. */
  readonly unpublished: readonly PortRequest[];
}

/**
 * Works out which attachment has the default gateway of each family, and which publishes which ports: the one that has
 * the gateway of the family, and those of routed networks, as Docker has it. Pure.
 */
export function planSandbox(
  attachments: readonly MadeAttachment[],
  ports: readonly PortRequest[],
  options: { readonly bySource?: boolean } = {},
): SandboxPlan {
  const described = attachments.map(describe);
  const elected = new Map(
    families.map((family) => [
      family,
      electGateway(
        described.map((each) => ({
          ...each,
          hasGateway:
            !each.isLeaving &&
            each.routes.some(({ dst }) => isDefaultRoute(dst) && dst.address.family === family),
        })),
      )?.index,
    ]),
  );
  const gatewayOf = (index: number) => families.filter((family) => elected.get(family) === index);
  const portMappings = described.map((each) => {
    const serves = families.filter(
      (family) =>
        !each.isLeaving &&
        each.addresses.some(({ address }) => address.family === family) &&
        (elected.get(family) === each.index || each.routed.includes(family)),
    );
    return each.canPublish ? ports.flatMap((port) => mappingsOf(port, serves, each)) : [];
  });
  return {
    routes: {
      bySource: options.bySource ?? attachments.length > 1,
      links: described.map(({ ifName, addresses, routes, index }) => ({
        ifName,
        addresses,
        routes,
        gatewayOf: gatewayOf(index),
      })),
    },
    portMappings,
    unpublished: ports.filter((port) => !portMappings.flat().some((mapping) => isOf(mapping, port))),
  };
}

interface Described {
  readonly index: number;
  readonly network: string;
  readonly ifName: string;
  readonly priority: number;
  readonly internal: boolean;
  readonly isLeaving: boolean;
  readonly addresses: readonly Cidr[];
  readonly routes: readonly CniRoute[];
  readonly canPublish: boolean;
  readonly routed: readonly Family[];
  /** Of portmap: where ports go that name no address; undefined for every address. */
  readonly binding: JsonObject | undefined;
}

function describe(attachment: MadeAttachment, index: number): Described {
  const { network, ifName, priority, plugins, result } = attachment;
  const ips = result.ips.filter((ip) => {
    const of = ip.interface === undefined ? undefined : result.interfaces[ip.interface];
    return of === undefined || (of.name === ifName && of.sandbox !== undefined);
  });
  const gatewayIn = (family: Family) => ips.find(({ gateway }) => gateway?.family === family)?.gateway;
  const routes = result.routes.map((route) => {
    const gw = route.gw ?? (isDefaultRoute(route.dst) ? gatewayIn(route.dst.address.family) : undefined);
    return gw === undefined ? route : { ...route, gw };
  });
  const modes = plugins.map((plugin) => field(plugin, "gatewayMode")).find(isJsonObject);
  const portmap = plugins.find((plugin) => declares(plugin, "portMappings"));
  const binding = portmap === undefined ? undefined : field(portmap, "hostBinding");
  return {
    index,
    network,
    ifName,
    priority,
    internal: plugins.some((plugin) => field(plugin, "internal") === true),
    isLeaving: attachment.isLeaving === true,
    addresses: ips.map(({ address }) => address),
    routes,
    canPublish: portmap !== undefined,
    routed: families.filter((family) => modes?.[`ipv${family}`] === "routed"),
    binding: isJsonObject(binding) ? binding : undefined,
  };
}

function declares(plugin: JsonObject, capability: string): boolean {
  const capabilities = field(plugin, "capabilities");
  return isJsonObject(capabilities) && capabilities[capability] === true;
}

/** Every address of a family, in portmap's words. */
const anyAddress = { 4: "0.0.0.0", 6: "::" } as const;

/** One entry, or one for a single family where another attachment serves the other one. */
function mappingsOf(
  port: PortRequest,
  serves: readonly Family[],
  { addresses, binding }: Described,
): readonly JsonObject[] {
  const hostPort = settledPort(port);
  if (hostPort === undefined) return [];
  const { protocol, containerPort, hostIp } = port;
  const common = { protocol, hostPort, containerPort };
  if (hostIp !== undefined) {
    const family = tryParseIp(hostIp)?.family;
    return serves.some((each) => each === family) ? [{ ...common, hostIP: hostIp }] : [];
  }
  const own = families.filter((family) => addresses.some(({ address }) => address.family === family));
  if (serves.length === 0) return [];
  if (own.every((family) => serves.includes(family))) return [common];
  return serves.flatMap((family) => {
    const bound = binding?.[`ipv${family}`];
    if (binding === undefined) return [{ ...common, hostIP: anyAddress[family] }];
    return typeof bound === "string" && bound !== "" ? [{ ...common, hostIP: bound }] : [];
  });
}

function isOf(mapping: JsonObject, port: PortRequest): boolean {
  return (
    mapping["protocol"] === port.protocol &&
    mapping["containerPort"] === port.containerPort &&
    mapping["hostPort"] === settledPort(port) &&
    (port.hostIp === undefined || mapping["hostIP"] === port.hostIp)
  );
}
