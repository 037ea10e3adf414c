import type { LogEvent } from "#machine/log.ts";

/** One line of the log, whoever wrote it: netd, a plugin's process, or netctl. */
export interface LogLine {
  readonly timeMs: number;
  readonly level: string;
  readonly message: string;
  readonly network: string;
  readonly containerId: string;
  readonly ifName: string;
  /** What the container's runtime calls it: NAMESPACE/NAME of a pod. */
  readonly name: string;
  readonly event?: LogEvent;
  /** Everything that the line says, as it was written. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Reads a line; undefined for what is none, such as one that was cut off by a full disk. */
export function parseLine(text: string): LogLine | undefined {
  let fields: Readonly<Record<string, unknown>>;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    fields = value as Readonly<Record<string, unknown>>;
  } catch {
    return undefined;
  }
  const { time, msg, event } = fields;
  if (typeof time !== "number" || typeof msg !== "string") return undefined;
  const word = (key: string) => (typeof fields[key] === "string" ? fields[key] : "");
  return {
    timeMs: time,
    level: word("level"),
    message: msg,
    network: word("network"),
    containerId: word("containerId"),
    ifName: word("ifName"),
    name: word("name"),
    ...(isEvent(event) ? { event } : {}),
    fields,
  };
}

function isEvent(value: unknown): value is LogEvent {
  return typeof value === "object" && value !== null && "type" in value && "action" in value;
}
