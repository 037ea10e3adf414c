/**
 * What goes over netd's socket, whole. `native/launcher.c` speaks the other side; the two change together.
 *
 * A connection carries one request. All integers are in host byte order, as both ends are one machine.
 *
 *   request   48 bytes of header, then name, environment (KEY=VALUE, each NUL-terminated) and stdin
 *   answer    one byte at once: "A" accepted, or "N" not here (then the caller does the work itself)
 *   answer    exit code, length of stdout, length of stderr (u32 each), stdout, stderr
 *
 * A caller that closes the connection, or its writing half, withdraws its request: what was begun is rolled back.
 */

import { endianness } from "node:os";
import type { Outcome } from "#cni/plugin.ts";

export const headerBytes = 48;
/** Changes with the frames, so that a netd and a launcher of different releases never misread each other. */
const requestMagic = "NCT2";
export const accepted = Buffer.from("A");
export const refused = Buffer.from("N");

/** Limits of one request and of its answer; the launcher has the same ones. */
export const maxNameBytes = 64;
export const maxEnvironmentBytes = 256 * 1024;
export const maxStdinBytes = 4 * 1024 * 1024;
export const maxReplyBytes = 4 * 1024 * 1024;

/** Requests of this name are no plugin's, but for the resolver: from netctl and from plugins that run outside netd. */
export const namesRequestName = "netctl-names";
/** Requests for the embedded engine, from netctl: netd/overlay/request.ts. */
export const engineRequestName = "netctl-engine";
/** Asks for what netd counts, in Prometheus' text format: netd/metrics.ts. */
export const metricsRequestName = "netctl-metrics";
/** Stands where a plugin's name would: one verb of a whole chain (runtime/chain-service.ts). */
export const chainRequestName = "netctl-chain";

/** Where a process is: a request is only carried out by one to which every path means the same. */
export interface Locality {
  /** Inode numbers of its namespaces. */
  readonly network: bigint;
  readonly mount: bigint;
  /** Of its root directory, which chroot(2) changes: inode, and the low 32 bits of stat(2)'s st_dev. */
  readonly rootInode: bigint;
  readonly rootDevice: number;
}

export function isSameLocality(a: Locality, b: Locality): boolean {
  return (
    a.network === b.network &&
    a.mount === b.mount &&
    a.rootInode === b.rootInode &&
    a.rootDevice === b.rootDevice
  );
}

export interface RequestHeader {
  readonly nameBytes: number;
  readonly environmentBytes: number;
  readonly stdinBytes: number;
  readonly locality: Locality;
  /** How long the caller will wait for the answer, from when it sent the request. */
  readonly timeoutMs: number;
}

export interface Request {
  /** The plugin's name, as the executable was called. */
  readonly name: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly stdin: string;
  /** What stdin is as JSON; undefined where it is none. */
  readonly json?: unknown;
  readonly locality: Locality;
  readonly timeoutMs: number;
}

export class ProtocolError extends Error {}

const little = endianness() === "LE";
const u32 = (from: Buffer, offset: number) =>
  little ? from.readUInt32LE(offset) : from.readUInt32BE(offset);
const u64 = (from: Buffer, offset: number) =>
  little ? from.readBigUInt64LE(offset) : from.readBigUInt64BE(offset);
const putU32 = (to: Buffer, value: number, offset: number) =>
  little ? to.writeUInt32LE(value, offset) : to.writeUInt32BE(value, offset);
const putU64 = (to: Buffer, value: bigint, offset: number) =>
  little ? to.writeBigUInt64LE(value, offset) : to.writeBigUInt64BE(value, offset);

/** Reads the first `headerBytes` of a request. @throws {ProtocolError} */
export function decodeHeader(bytes: Buffer): RequestHeader {
  const magic = bytes.toString("latin1", 0, 4);
  if (magic !== requestMagic) {
    throw new ProtocolError(
      `Cannot read a request: it begins with ${JSON.stringify(magic)}, not "${requestMagic}"`,
    );
  }
  const header = {
    nameBytes: u32(bytes, 4),
    environmentBytes: u32(bytes, 8),
    stdinBytes: u32(bytes, 12),
    locality: {
      network: u64(bytes, 16),
      mount: u64(bytes, 24),
      rootInode: u64(bytes, 32),
      rootDevice: u32(bytes, 40),
    },
    timeoutMs: u32(bytes, 44),
  };
  if (header.nameBytes > maxNameBytes)
    throw new ProtocolError(`Cannot read a request: a name of ${header.nameBytes} bytes`);
  if (header.environmentBytes > maxEnvironmentBytes) {
    throw new ProtocolError(`Cannot read a request: an environment of ${header.environmentBytes} bytes`);
  }
  if (header.stdinBytes > maxStdinBytes)
    throw new ProtocolError(`Cannot read a request: ${header.stdinBytes} bytes of stdin`);
  return header;
}

/** The number of bytes that follow the header. */
export function bodyBytes(header: RequestHeader): number {
  return header.nameBytes + header.environmentBytes + header.stdinBytes;
}

export function decodeRequest(header: RequestHeader, body: Buffer): Request {
  const environmentEnd = header.nameBytes + header.environmentBytes;
  // Without a prototype, which a variable may be named like.
  const environment = Object.create(null) as Record<string, string>;
  for (const entry of body.toString("utf8", header.nameBytes, environmentEnd).split("\0")) {
    const equals = entry.indexOf("=");
    const key = entry.slice(0, equals);
    // Of two with one name the first counts, as for getenv(3).
    if (equals > 0 && !(key in environment)) environment[key] = entry.slice(equals + 1);
  }
  const stdin = body.toString("utf8", environmentEnd, environmentEnd + header.stdinBytes);
  return {
    name: body.toString("utf8", 0, header.nameBytes),
    environment,
    stdin,
    json: parsed(stdin),
    locality: header.locality,
    timeoutMs: header.timeoutMs,
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The plugin says what is wrong with it.
    return undefined;
  }
}

/** The caller's side, for netctl and tests; the plugins' is native/launcher.c. */
export function encodeRequest(request: Request): Buffer {
  const name = Buffer.from(request.name);
  const environment = Buffer.from(
    Object.entries(request.environment)
      .map(([key, value]) => `${key}=${value}\0`)
      .join(""),
  );
  const stdin = Buffer.from(request.stdin);
  const header = Buffer.alloc(headerBytes);
  header.write(requestMagic, 0, "latin1");
  putU32(header, name.length, 4);
  putU32(header, environment.length, 8);
  putU32(header, stdin.length, 12);
  putU64(header, request.locality.network, 16);
  putU64(header, request.locality.mount, 24);
  putU64(header, request.locality.rootInode, 32);
  putU32(header, request.locality.rootDevice, 40);
  putU32(header, request.timeoutMs, 44);
  return Buffer.concat([header, name, environment, stdin]);
}

/** What is longer than the launcher takes loses the end of stderr; @throws {ProtocolError} where stdout is too long. */
export function encodeOutcome(outcome: Outcome): Buffer {
  const stdout = Buffer.from(outcome.stdout);
  if (stdout.length > maxReplyBytes) {
    throw new ProtocolError(`Cannot answer a request: ${stdout.length} bytes of stdout`);
  }
  const stderr = Buffer.from(outcome.stderr).subarray(0, maxReplyBytes - stdout.length);
  const lengths = Buffer.alloc(12);
  putU32(lengths, outcome.exitCode, 0);
  putU32(lengths, stdout.length, 4);
  putU32(lengths, stderr.length, 8);
  return Buffer.concat([lengths, stdout, stderr]);
}

/** Undefined while bytes are missing. @throws {ProtocolError} where more are announced than there may be */
export function decodeOutcome(bytes: Buffer): Outcome | undefined {
  if (bytes.length < 12) return undefined;
  const stdoutEnd = 12 + u32(bytes, 4);
  const stderrEnd = stdoutEnd + u32(bytes, 8);
  if (stderrEnd - 12 > maxReplyBytes)
    throw new ProtocolError(`Cannot read an answer: ${stderrEnd - 12} bytes`);
  if (bytes.length < stderrEnd) return undefined;
  return {
    exitCode: u32(bytes, 0),
    stdout: bytes.toString("utf8", 12, stdoutEnd),
    stderr: bytes.toString("utf8", stdoutEnd, stderrEnd),
  };
}

/** Where the netd of one network namespace listens. */
export function socketPath(runDirectory: string, networkNamespace: bigint): string {
  return `${runDirectory}/netd-${networkNamespace}.sock`;
}

/** Its lock, in which its pid stands. */
export function lockPath(runDirectory: string, networkNamespace: bigint): string {
  return `${runDirectory}/netd-${networkNamespace}.lock`;
}
