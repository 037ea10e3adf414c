import { randomInt } from "node:crypto";
import { readFile } from "node:fs/promises";
import { type PortRequest, type PortSpan, settledPort } from "./port-request.ts";

/** Ports of the host that may be given to whoever does not ask for one. */
export interface EphemeralPorts {
  readonly span: PortSpan;
  readonly reserved: readonly PortSpan[];
}

/** IANA's dynamic ports, where the kernel does not say. */
const fallback: PortSpan = { first: 49153, last: 65535 };

/** `net.ipv4.ip_local_port_range` without `ip_local_reserved_ports`, of the namespace that this process runs in. */
export async function readEphemeralPorts(): Promise<EphemeralPorts> {
  const read = (name: string) => readFile(`/proc/sys/net/ipv4/${name}`, "utf8").catch(() => "");
  const [, first, last] = /^(\d+)\s+(\d+)/.exec(await read("ip_local_port_range")) ?? [];
  const reserved = (await read("ip_local_reserved_ports")).trim().split(",").flatMap(parseSpan);
  return { span: first && last ? { first: Number(first), last: Number(last) } : fallback, reserved };
}

function parseSpan(text: string): readonly PortSpan[] {
  const [, first, last] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  return first === undefined ? [] : [{ first: Number(first), last: Number(last ?? first) }];
}

/** `tcp/8080`: what has to differ between two mappings, whatever their addresses. */
export type PortKey = `${string}/${number}`;

export function portKey({ protocol }: Pick<PortRequest, "protocol">, port: number): PortKey {
  return `${protocol}/${port}`;
}

/**
 * Chooses a port of the host for each request that has none: the first one of its range, or a random one, that is not
 * to be avoided and that no other of the requests has. Undefined if there is none for one of them.
 */
export function chooseHostPorts(
  requests: readonly PortRequest[],
  ephemeral: EphemeralPorts,
  avoided: ReadonlySet<PortKey>,
): readonly PortRequest[] | undefined {
  const taken = new Set<PortKey>(avoided);
  for (const request of requests) {
    const port = settledPort(request);
    if (port !== undefined) taken.add(portKey(request, port));
  }
  const chosen: PortRequest[] = [];
  for (const request of requests) {
    const port = settledPort(request) ?? findFree(request, ephemeral, taken);
    if (port === undefined) return undefined;
    taken.add(portKey(request, port));
    chosen.push({ ...request, hostPort: port });
  }
  return chosen;
}

function findFree(
  request: PortRequest,
  { span, reserved }: EphemeralPorts,
  taken: ReadonlySet<PortKey>,
): number | undefined {
  const { first, last } = request.hostPorts ?? span;
  const isRandom = request.hostPorts === undefined;
  const count = last - first + 1;
  const start = isRandom ? randomInt(count) : 0;
  for (let step = 0; step < count; step++) {
    const port = first + ((start + step) % count);
    const isReserved = isRandom && reserved.some((each) => port >= each.first && port <= each.last);
    if (!isReserved && !taken.has(portKey(request, port))) return port;
  }
  return undefined;
}
