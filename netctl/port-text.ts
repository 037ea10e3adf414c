import { isJsonObject, type JsonValue } from "#cni/json.ts";
import type { Journal } from "#journal/journal.ts";
import type { JournalRecord } from "#journal/record.ts";
import { tryParseIp } from "#net/ip.ts";
import type { CachedAttachment } from "#runtime/cache.ts";
import { type PortRequest, settledPort } from "#runtime/port-request.ts";

/** A port as it is published now. */
export interface PublishedPort {
  readonly network: string;
  readonly ifName: string;
  readonly protocol: string;
  /** `0.0.0.0` and `::` for all addresses of a family. */
  readonly hostIp: string;
  readonly hostPort: number;
  readonly containerIp: string;
  readonly containerPort: number;
}

/** As it was asked for: `8080:80/tcp`. */
export function portText(port: PortRequest): string {
  const { hostIp, hostPorts, protocol, containerPort } = port;
  const span =
    settledPort(port) ?? (hostPorts === undefined ? undefined : `${hostPorts.first}-${hostPorts.last}`);
  const address = hostIp === undefined ? "" : `${bracketed(hostIp)}:`;
  return `${address}${span === undefined ? "" : `${span}:`}${containerPort}/${protocol}`;
}

/** `0.0.0.0:8080`, `[::]:8080` */
export function hostText({ hostIp, hostPort }: Pick<PublishedPort, "hostIp" | "hostPort">): string {
  return `${bracketed(hostIp)}:${hostPort}`;
}

/** As `docker ps` shows them: `0.0.0.0:8080->80/tcp`, and ports that follow each other as one range. */
export function summarizePorts(ports: readonly PublishedPort[]): string {
  const runs: { first: PublishedPort; last: PublishedPort }[] = [];
  for (const port of ports.toSorted(comparePorts)) {
    const run = runs.at(-1);
    const follows =
      run !== undefined &&
      run.last.hostIp === port.hostIp &&
      run.last.protocol === port.protocol &&
      run.last.hostPort + 1 === port.hostPort &&
      run.last.containerPort + 1 === port.containerPort;
    if (follows) run.last = port;
    else runs.push({ first: port, last: port });
  }
  return runs
    .map(({ first, last }) => {
      const range = (from: number, to: number) => (from === to ? `${from}` : `${from}-${to}`);
      const host = `${bracketed(first.hostIp)}:${range(first.hostPort, last.hostPort)}`;
      return `${host}->${range(first.containerPort, last.containerPort)}/${first.protocol}`;
    })
    .join(", ");
}

/** By protocol, address and port of the host; IPv4 first. */
export function comparePorts(a: PublishedPort, b: PublishedPort): number {
  const family = (port: PublishedPort) => (port.hostIp.includes(":") ? 6 : 4);
  return (
    compareText(a.protocol, b.protocol) ||
    family(a) - family(b) ||
    compareText(a.hostIp, b.hostIp) ||
    a.hostPort - b.hostPort ||
    a.containerPort - b.containerPort
  );
}

const compareText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);

const bracketed = (address: string) => (address.includes(":") ? `[${address}]` : address);

/**
 * The ports that a container publishes: by what portmap has recorded; where that is not the suite's, by what the
 * runtime asked it for.
 */
export function publishedPortsOf(
  containerId: string,
  journal: Journal,
  cached: readonly CachedAttachment[],
): readonly PublishedPort[] {
  return publishedPortsIn(
    journal.listOfContainer(containerId, "portmap"),
    cached.filter((each) => each.containerId === containerId),
  );
}

/** The same of one container's records of portmap, and its cached results. */
export function publishedPortsIn(
  records: readonly JournalRecord[],
  cached: readonly CachedAttachment[],
): readonly PublishedPort[] {
  const recorded = records.flatMap((record) => {
    if (record.phase === "torn" || !isJsonObject(record.made)) return [];
    const { published } = record.made;
    if (!Array.isArray(published)) return [];
    return (published as readonly JsonValue[]).flatMap((each) => readRecorded(each, record.key));
  });
  const asked = cached
    .filter((each) => !records.some(({ key }) => key.network === each.network && key.ifName === each.ifName))
    .flatMap(readAsked);
  return [...recorded, ...asked].toSorted(comparePorts);
}

interface Place {
  readonly network: string;
  readonly ifName: string;
}

/** As plugins/portmap/made.ts writes it. */
function readRecorded(value: JsonValue, { network, ifName }: Place): readonly PublishedPort[] {
  if (!isJsonObject(value)) return [];
  const { protocol, hostIp, hostPort, lastHostPort, containerIp, containerPort } = value;
  if (typeof protocol !== "string" || typeof containerIp !== "string") return [];
  if (typeof hostPort !== "number" || typeof containerPort !== "number") return [];
  const last = typeof lastHostPort === "number" ? lastHostPort : hostPort;
  const any = containerIp.includes(":") ? "::" : "0.0.0.0";
  return Array.from({ length: last - hostPort + 1 }, (_, index) => ({
    network,
    ifName,
    protocol,
    hostIp: typeof hostIp === "string" ? hostIp : any,
    hostPort: hostPort + index,
    containerIp,
    containerPort: containerPort + index,
  }));
}

/** The capability's values, for each family that the container has. */
function readAsked({ network, ifName, capabilityArgs, result }: CachedAttachment): readonly PublishedPort[] {
  const mappings = capabilityArgs["portMappings"];
  const ips = result["ips"];
  if (!Array.isArray(mappings) || !Array.isArray(ips)) return [];
  const addresses = (ips as readonly JsonValue[]).flatMap((ip) => {
    const address = isJsonObject(ip) ? ip["address"] : undefined;
    return typeof address === "string" ? [address.split("/")[0] ?? ""] : [];
  });
  const families = [
    addresses.find((each) => !each.includes(":")),
    addresses.find((each) => each.includes(":")),
  ];
  return (mappings as readonly JsonValue[]).filter(isJsonObject).flatMap((mapping) =>
    families.flatMap((containerIp) => {
      if (containerIp === undefined) return [];
      const { protocol, hostPort, containerPort, hostIP } = mapping;
      if (typeof hostPort !== "number" || typeof containerPort !== "number") return [];
      const isIpv6 = containerIp.includes(":");
      const any = isIpv6 ? "::" : "0.0.0.0";
      const hostIp = typeof hostIP === "string" && hostIP !== "" ? hostIP : any;
      if ((tryParseIp(hostIp)?.family === 6) !== isIpv6) return [];
      const name = typeof protocol === "string" ? protocol.toLowerCase() : "tcp";
      return [{ network, ifName, protocol: name, hostIp, hostPort, containerIp, containerPort }];
    }),
  );
}
