import { isJsonObject, type JsonObject } from "#cni/json.ts";

export type PortProtocol = "tcp" | "udp" | "sctp";

export interface PortSpan {
  readonly first: number;
  readonly last: number;
}

/** One port of a sandbox that is to be reached by the host's addresses. */
export interface PortRequest {
  readonly protocol: PortProtocol;
  readonly containerPort: number;
  /** One address of the host; every one of both families if absent. */
  readonly hostIp?: string;
  /** Ports of the host of which any will do; every free one if absent. */
  readonly hostPorts?: PortSpan;
  /** The one that was taken, and is kept from then on; absent as long as it was never published. */
  readonly hostPort?: number;
}

/** The port that there is no choice about. */
export function settledPort({ hostPort, hostPorts }: PortRequest): number | undefined {
  if (hostPort !== undefined) return hostPort;
  return hostPorts !== undefined && hostPorts.first === hostPorts.last ? hostPorts.first : undefined;
}

/** As a sandbox's record has it. Undefined for anything else. */
export function parsePortRequest(value: unknown): PortRequest | undefined {
  if (!isJsonObject(value)) return undefined;
  const { protocol, containerPort, hostIp, hostPorts, hostPort } = value;
  if (protocol !== "tcp" && protocol !== "udp" && protocol !== "sctp") return undefined;
  if (typeof containerPort !== "number") return undefined;
  const span = isJsonObject(hostPorts) ? parseSpan(hostPorts) : undefined;
  return {
    protocol,
    containerPort,
    ...(typeof hostIp === "string" ? { hostIp } : {}),
    ...(span === undefined ? {} : { hostPorts: span }),
    ...(typeof hostPort === "number" ? { hostPort } : {}),
  };
}

function parseSpan({ first, last }: JsonObject): PortSpan | undefined {
  return typeof first === "number" && typeof last === "number" ? { first, last } : undefined;
}
