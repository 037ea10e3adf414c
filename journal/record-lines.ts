import { native } from "#native/addon.ts";
import type { IntactRecord, Json, JsonRecord } from "./record.ts";

/**
 * The text of a record: one line is the CRC-32 of the JSON after it, eight hex digits, a blank, and that JSON. The
 * first line is the intent; a later one has `made` (instead of what stood before), `result` (the ADD is done) or
 * `leaving` (a DEL has begun).
 * Lines that are added begin with a line break as well, so that the torn rest of a failed write spoils only itself.
 */

const newline = 0x0a;
const checksumLength = 9;

export type LaterLine = { readonly made: Json } | { readonly result: Json } | { readonly leaving: true };

type FirstLine = Omit<IntactRecord, "phase" | "result">;

export function encodeFirstLine(record: FirstLine): string {
  const { key, plugin, bootId, writer, hostNamespace, createdAtMs, netns, config, args, made } = record;
  const line = { key, plugin, bootId, writer, hostNamespace, createdAtMs, netns, config, args, made };
  return `${checked(line)}\n`;
}

export function encodeLaterLine(line: LaterLine): string {
  return `\n${checked(line)}\n`;
}

function checked(value: object): string {
  const json = JSON.stringify(value);
  return `${checksum(Buffer.from(json))} ${json}`;
}

function checksum(bytes: Uint8Array): string {
  return native().crc32(bytes).toString(16).padStart(8, "0");
}

/** `undefined` if the first line is not whole. Of the others, those that are not whole are passed over. */
export function decodeRecord(bytes: Uint8Array): IntactRecord | undefined {
  let record: IntactRecord | undefined;
  for (const line of linesOf(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))) {
    const value = decodeLine(line);
    if (!record) {
      if (!value || !isFirstLine(value)) return undefined;
      record = { ...(value as unknown as FirstLine), phase: "intent" };
    } else if (value && "made" in value) {
      record = { ...record, made: value["made"] ?? null };
    } else if (value && "result" in value) {
      record = { ...record, phase: "done", result: value["result"] ?? null };
    } else if (value && "leaving" in value) {
      record = { ...record, phase: "leaving" };
    }
  }
  return record;
}

/** The text between line breaks, without empty lines. What follows the last break was not written to its end. */
function* linesOf(bytes: Buffer): Generator<Buffer> {
  let start = 0;
  for (;;) {
    const end = bytes.indexOf(newline, start);
    if (end < 0) return;
    if (end > start) yield bytes.subarray(start, end);
    start = end + 1;
  }
}

function decodeLine(line: Buffer): JsonRecord | undefined {
  const json = line.subarray(checksumLength);
  if (line.toString("latin1", 0, checksumLength) !== `${checksum(json)} `) {
    return undefined;
  }
  try {
    const value: unknown = JSON.parse(json.toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as JsonRecord)
      : undefined;
  } catch {
    // A line with the right checksum that is not ours.
    return undefined;
  }
}

function isFirstLine(value: JsonRecord): boolean {
  return (
    isObject(value["key"]) &&
    isObject(value["writer"]) &&
    isObject(value["config"]) &&
    Array.isArray(value["args"]) &&
    typeof value["plugin"] === "string" &&
    typeof value["bootId"] === "string" &&
    typeof value["createdAtMs"] === "number" &&
    value["made"] !== undefined
  );
}

function isObject(value: Json | undefined): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
