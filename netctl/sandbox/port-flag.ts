import { formatIp, isUnspecified, parseIp } from "#net/ip.ts";
import { parsePort } from "#net/port.ts";
import { UsageFailure } from "#netctl/failure.ts";
import type { PortProtocol, PortRequest, PortSpan } from "#runtime/port-request.ts";

/** A range of more is refused: each port is an element of its own where the numbers move. */
const maxSpan = 65_535;

/**
 * Reads one `-p` as Docker does: `[[HOSTIP:][HOSTPORT[-LAST]]:]PORT[-LAST][/PROTOCOL]`. Ranges of one length go
 * together port by port; a range of the host for one port means the first that is free.
 * @throws {UsageFailure}
 */
export function parsePublish(text: string): readonly PortRequest[] {
  const fail = (why: string) => new UsageFailure(`Cannot use --publish ${text}: ${why}`);
  const { rest, protocol } = splitProtocol(text, fail);
  const { hostIp, host, container } = splitParts(rest, fail);
  const containerPorts = parseSpan(container, "container port", fail);
  const hostPorts = host === "" ? undefined : parseSpan(host, "host port", fail);
  const count = lengthOf(containerPorts);
  const common = { protocol, ...(hostIp === undefined ? {} : { hostIp }) };
  if (hostPorts !== undefined && count > 1 && lengthOf(hostPorts) !== count) {
    throw fail(`${lengthOf(hostPorts)} ports of the host for ${count} of the container`);
  }
  return Array.from({ length: count }, (_, index): PortRequest => {
    const containerPort = containerPorts.first + index;
    if (hostPorts === undefined) return { ...common, containerPort };
    const single = { first: hostPorts.first + index, last: hostPorts.first + index };
    return { ...common, containerPort, hostPorts: count === 1 ? hostPorts : single };
  });
}

/** Reads one `--expose`: `PORT[-LAST][/PROTOCOL]`. @throws {UsageFailure} */
export function parseExpose(text: string): readonly PortRequest[] {
  const fail = (why: string) => new UsageFailure(`Cannot use --expose ${text}: ${why}`);
  const { rest, protocol } = splitProtocol(text, fail);
  const { first, last } = parseSpan(rest, "port", fail);
  return Array.from({ length: last - first + 1 }, (_, index) => ({ protocol, containerPort: first + index }));
}

type Fail = (why: string) => UsageFailure;

const protocols: readonly PortProtocol[] = ["tcp", "udp", "sctp"];

function splitProtocol(text: string, fail: Fail): { readonly rest: string; readonly protocol: PortProtocol } {
  const slash = text.lastIndexOf("/");
  if (slash < 0) return { rest: text, protocol: "tcp" };
  const name = text.slice(slash + 1).toLowerCase();
  const protocol = protocols.find((known) => known === name);
  if (protocol === undefined) throw fail(`protocol "${name}" is none of ${protocols.join(", ")}`);
  return { rest: text.slice(0, slash), protocol };
}

function splitParts(text: string, fail: Fail) {
  const [, bracketed, behind] = /^\[([^\]]*)\]:(.*)$/.exec(text) ?? [];
  const words = (behind ?? text).split(":");
  const container = words.pop() ?? "";
  const host = words.pop() ?? "";
  // What is left of a bare IPv6 address is its own.
  const address = bracketed ?? (words.length === 0 ? undefined : words.join(":"));
  if (bracketed !== undefined && words.length > 0) throw fail("expected [ADDRESS]:HOSTPORT:PORT");
  return { hostIp: parseHostIp(address, fail), host, container };
}

/** Every address of both families is what a mapping without one means; those of one family stay as they are. */
function parseHostIp(text: string | undefined, fail: Fail): string | undefined {
  if (text === undefined || text === "") return undefined;
  try {
    const ip = parseIp(text);
    return isUnspecified(ip) ? (ip.family === 4 ? "0.0.0.0" : "::") : formatIp(ip);
  } catch {
    throw fail(`"${text}" is no IP address`);
  }
}

function parseSpan(text: string, what: string, fail: Fail): PortSpan {
  const [, from = "", to = from] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  try {
    const [first, last] = [parsePort(from), parsePort(to)];
    if (first <= last && last - first < maxSpan) return { first, last };
  } catch {
    // Said below.
  }
  throw fail(`"${text}" is no ${what}, nor a range of such`);
}

const lengthOf = ({ first, last }: PortSpan) => last - first + 1;
