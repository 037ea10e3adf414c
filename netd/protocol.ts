/**
 * What goes over netd's socket, whole. `native/launcher.c` speaks the other side; the two change together.
 *
 * A connection carries one request. All integers are in host byte order, as both ends are one machine.
 *
 *   request   48 bytes of header (below), then name, environment (KEY=VALUE, each NUL-terminated) and stdin
 *   answer    one byte at once: "A" accepted, or "N" not here (then the caller does the work itself)
 *   answer    exit code, length of stdout, length of stderr (u32 each), stdout, stderr
 *
 * A caller that closes the connection withdraws its request: what it began is rolled back.
 */

import { endianness } from "node:os";
import type { Outcome } from "#cni/plugin.ts";

export const headerBytes = 48;
export const accepted = Buffer.from("A");
export const refused = Buffer.from("N");

/** Limits of one request; the launcher has the same ones. */
export const maxNameBytes = 64;
export const maxEnvironmentBytes = 256 * 1024;
export const maxStdinBytes = 4 * 1024 * 1024;

/** What the caller's process is in, as inode numbers: a request is only carried out in the same. */
export interface Namespaces {
  readonly network: bigint;
  readonly mount: bigint;
}

export interface RequestHeader {
  readonly nameBytes: number;
  readonly environmentBytes: number;
  readonly stdinBytes: number;
  readonly namespaces: Namespaces;
  /** How long the caller will wait for the answer, from when it sent the request. */
  readonly timeoutMs: number;
}

export interface Request {
  /** The plugin's name, as the executable was called. */
  readonly name: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly stdin: string;
  readonly namespaces: Namespaces;
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
  if (magic !== "NCT1")
    throw new ProtocolError(`Cannot read a request: it begins with ${JSON.stringify(magic)}, not "NCT1"`);
  const header = {
    nameBytes: u32(bytes, 4),
    environmentBytes: u32(bytes, 8),
    stdinBytes: u32(bytes, 12),
    namespaces: { network: u64(bytes, 16), mount: u64(bytes, 24) },
    timeoutMs: u32(bytes, 32),
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
  const environment: Record<string, string> = {};
  for (const entry of body.toString("utf8", header.nameBytes, environmentEnd).split("\0")) {
    const equals = entry.indexOf("=");
    if (equals > 0) environment[entry.slice(0, equals)] = entry.slice(equals + 1);
  }
  return {
    name: body.toString("utf8", 0, header.nameBytes),
    environment,
    stdin: body.toString("utf8", environmentEnd, environmentEnd + header.stdinBytes),
    namespaces: header.namespaces,
    timeoutMs: header.timeoutMs,
  };
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
  header.write("NCT1", 0, "latin1");
  putU32(header, name.length, 4);
  putU32(header, environment.length, 8);
  putU32(header, stdin.length, 12);
  putU64(header, request.namespaces.network, 16);
  putU64(header, request.namespaces.mount, 24);
  putU32(header, request.timeoutMs, 32);
  return Buffer.concat([header, name, environment, stdin]);
}

export function encodeOutcome(outcome: Outcome): Buffer {
  const stdout = Buffer.from(outcome.stdout);
  const stderr = Buffer.from(outcome.stderr);
  const lengths = Buffer.alloc(12);
  putU32(lengths, outcome.exitCode, 0);
  putU32(lengths, stdout.length, 4);
  putU32(lengths, stderr.length, 8);
  return Buffer.concat([lengths, stdout, stderr]);
}

/** Undefined while bytes are missing. */
export function decodeOutcome(bytes: Buffer): Outcome | undefined {
  if (bytes.length < 12) return undefined;
  const stdoutEnd = 12 + u32(bytes, 4);
  const stderrEnd = stdoutEnd + u32(bytes, 8);
  if (bytes.length < stderrEnd) return undefined;
  return {
    exitCode: u32(bytes, 0),
    stdout: bytes.toString("utf8", 12, stdoutEnd),
    stderr: bytes.toString("utf8", stdoutEnd, stderrEnd),
  };
}

/** Where the netd of one network namespace listens, keeps its lock, and what it is called in messages. */
export function socketPath(runDirectory: string, networkNamespace: bigint): string {
  return `${runDirectory}/netd-${networkNamespace}.sock`;
}

export function lockPath(runDirectory: string, networkNamespace: bigint): string {
  return `${runDirectory}/netd-${networkNamespace}.lock`;
}
