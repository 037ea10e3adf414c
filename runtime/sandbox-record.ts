import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isJsonObject, type JsonObject } from "#cni/json.ts";
import { createDurably, removeDurably, writeDurably } from "#machine/durable-file.ts";
import { errorCode } from "#machine/io-error.ts";
import type { AttachmentTarget } from "./plugin-call.ts";
import { type PortRequest, parsePortRequest } from "./port-request.ts";
import { readSandboxSettings, type SandboxSettings } from "./sandbox-settings.ts";

/** One network of a sandbox: the parameters of its ADD, which its DEL repeats. */
export interface SandboxAttachment extends Pick<AttachmentTarget, "ifName" | "args" | "capabilityArgs"> {
  readonly network: string;
  /** The higher, the rather its gateway is the default one; 0 where nothing was said. */
  readonly gatewayPriority: number;
}

/** A change of a live sandbox that has begun. */
export interface SandboxChange {
  readonly verb: "connect" | "disconnect";
  readonly ifName: string;
}

/**
 * A sandbox as it is on disk. `attachments` are those intended, written before the first of them is made: a
 * sandbox whose creation was cut off can be removed whole.
 */
export interface SandboxRecord {
  readonly name: string;
  readonly containerId: string;
  /** Path of the namespace's bind mount. */
  readonly netns: string;
  /** ISO 8601, UTC */
  readonly createdAt: string;
  readonly phase: "creating" | "ready" | "removing";
  /** Set while the attachment that it names is being made or removed; it is in `attachments` all the while. */
  readonly change?: SandboxChange;
  readonly attachments: readonly SandboxAttachment[];
  readonly ports: readonly PortRequest[];
  readonly settings: SandboxSettings;
}

/** The file of a sandbox is there and says nothing usable. */
export class SandboxRecordDamage extends Error {
  override readonly name = "SandboxRecordDamage";
}

const suffix = ".json";
const permissions = { mode: 0o600, directoryMode: 0o700 };

/** One JSON file per sandbox. */
export class SandboxRecords {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** @throws an error with code EEXIST where the name is taken, by whatever the file holds */
  async create(record: SandboxRecord): Promise<void> {
    await createDurably(this.#file(record.name), render(record), permissions);
  }

  async update(record: SandboxRecord): Promise<void> {
    await writeDurably(this.#file(record.name), render(record), permissions);
  }

  /** Undefined if there is none. @throws {SandboxRecordDamage} */
  async read(name: string): Promise<SandboxRecord | undefined> {
    const file = this.#file(name);
    let text: string;
    try {
      text = await readFile(file, "utf8");
    } catch (error) {
      if (errorCode(error) === "ENOENT") return undefined;
      throw error;
    }
    return parse(text, name, file);
  }

  async remove(name: string): Promise<void> {
    await removeDurably(this.#file(name));
  }

  /** Names of all sandboxes, also of those whose record is damaged. Sorted. */
  async names(): Promise<readonly string[]> {
    try {
      const files = await readdir(this.#directory);
      return files
        .filter((file) => file.endsWith(suffix) && !file.startsWith("."))
        .map((file) => file.slice(0, -suffix.length))
        .sort();
    } catch (error) {
      if (errorCode(error) === "ENOENT") return [];
      throw error;
    }
  }

  #file(name: string): string {
    return join(this.#directory, `${name}${suffix}`);
  }
}

function render(record: SandboxRecord): string {
  return `${JSON.stringify({ version: 1, ...record }, null, 2)}\n`;
}

function parse(text: string, name: string, file: string): SandboxRecord {
  const damage = (why: string, cause?: unknown) =>
    new SandboxRecordDamage(`Cannot use ${file}: ${why}`, cause === undefined ? undefined : { cause });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw damage("it is not JSON", cause);
  }
  if (!isJsonObject(json)) throw damage("it is not a JSON object");
  if (json["version"] !== 1) throw damage(`its version is ${JSON.stringify(json["version"])}, known is 1`);
  const { containerId, netns, createdAt, phase, attachments } = json;
  if (json["name"] !== name) throw damage(`it is the record of ${JSON.stringify(json["name"])}`);
  if (typeof containerId !== "string" || typeof netns !== "string" || typeof createdAt !== "string") {
    throw damage("containerId, netns or createdAt is missing");
  }
  if (phase !== "creating" && phase !== "ready" && phase !== "removing") {
    throw damage(`its phase is ${JSON.stringify(phase)}`);
  }
  if (!Array.isArray(attachments)) throw damage("attachments is not a list");
  const parsed = (attachments as readonly unknown[]).map(parseAttachment);
  const whole = parsed.filter((attachment) => attachment !== undefined);
  if (whole.length !== parsed.length) throw damage("an attachment lacks network or ifName");
  const { change, ports } = json;
  const begun = parseChange(change);
  return {
    name,
    containerId,
    netns,
    createdAt,
    phase,
    ...(begun === undefined ? {} : { change: begun }),
    attachments: whole,
    ports: Array.isArray(ports)
      ? (ports as readonly unknown[]).flatMap((port) => parsePortRequest(port) ?? [])
      : [],
    settings: readSandboxSettings(json["settings"]),
  };
}

function parseChange(value: unknown): SandboxChange | undefined {
  if (!isJsonObject(value)) return undefined;
  const { verb, ifName } = value;
  if ((verb !== "connect" && verb !== "disconnect") || typeof ifName !== "string") return undefined;
  return { verb, ifName };
}

function parseAttachment(value: unknown): SandboxAttachment | undefined {
  if (!isJsonObject(value)) return undefined;
  const { network, ifName, args, capabilityArgs, gatewayPriority } = value;
  if (typeof network !== "string" || typeof ifName !== "string") return undefined;
  return {
    network,
    ifName,
    args: Array.isArray(args) ? (args as readonly unknown[]).flatMap(parsePair) : [],
    capabilityArgs: isJsonObject(capabilityArgs) ? capabilityArgs : ({} satisfies JsonObject),
    gatewayPriority: typeof gatewayPriority === "number" ? gatewayPriority : 0,
  };
}

function parsePair(value: unknown): readonly (readonly [string, string])[] {
  if (!Array.isArray(value)) return [];
  const [key, text] = value as readonly unknown[];
  return typeof key === "string" && typeof text === "string" ? [[key, text]] : [];
}
