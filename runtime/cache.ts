import { readFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isJsonObject, type JsonObject } from "#cni/json.ts";
import { removeDurably, writeDurably } from "#machine/durable-file.ts";
import { errorCode } from "#machine/io-error.ts";

/** One attachment as a runtime names it; the journal of the plugins uses the same three. */
export interface AttachmentKey {
  readonly network: string;
  readonly containerId: string;
  readonly ifName: string;
}

/** What is kept of an ADD that succeeded: enough for CHECK, DEL and GC when the conflist has changed or gone. */
export interface CachedAttachment extends AttachmentKey {
  /** CNI_NETNS of the ADD; empty where it was not recorded. */
  readonly netns: string;
  /** CNI_ARGS in order. */
  readonly args: readonly (readonly [key: string, value: string])[];
  /** Values for the capabilities that the plugins declare. */
  readonly capabilityArgs: JsonObject;
  /** The conflist, byte for byte; empty in a legacy file. */
  readonly config: string;
  /** Result of the last plugin, in the version of that ADD. */
  readonly result: JsonObject;
}

/** A file of the cache holds something else than an attachment. */
export class CacheDamage extends Error {
  override readonly name = "CacheDamage";
}

const kind = "cniCacheV1";

/**
 * libcni's cache of results, in its own format and under its own names, so that ours and a Go runtime's can read
 * each other's. Unlike libcni's, a file is never seen half-written.
 *
 * @see containernetworking/cni, libcni/api.go (cachedInfo, cacheAdd)
 */
export class ResultCache {
  readonly #directory: string;

  /** @param directory `/var/lib/cni/results` for libcni; made when something is written */
  constructor(directory: string) {
    this.#directory = directory;
  }

  async write(attachment: CachedAttachment): Promise<void> {
    const { args, capabilityArgs } = attachment;
    const record: JsonObject = {
      kind,
      containerId: attachment.containerId,
      config: Buffer.from(attachment.config).toString("base64"),
      ifName: attachment.ifName,
      networkName: attachment.network,
      ...(attachment.netns === "" ? {} : { netns: attachment.netns }),
      ...(args.length === 0 ? {} : { cniArgs: args.map(([key, value]) => [key, value]) }),
      ...(Object.keys(capabilityArgs).length === 0 ? {} : { capabilityArgs }),
      result: attachment.result,
    };
    await writeDurably(this.#file(attachment), JSON.stringify(record), { mode: 0o600, directoryMode: 0o700 });
  }

  /**
   * Undefined if nothing is cached. A bare result, as libcni before 0.8 wrote it, has no config and no arguments.
   * @throws {CacheDamage} the file is not an attachment
   */
  async read(key: AttachmentKey): Promise<CachedAttachment | undefined> {
    const file = this.#file(key);
    const text = await readIfThere(file);
    if (text === undefined) return undefined;
    const json = parseObject(text, file);
    if (json["kind"] === undefined) {
      return { ...pickKey(key), netns: "", args: [], capabilityArgs: {}, config: "", result: json };
    }
    const found = decode(json);
    if (found === undefined)
      throw new CacheDamage(`Cannot use cached result ${file}: it is no attachment of kind ${kind}`);
    return found;
  }

  /** Does nothing if it is gone. */
  async remove(key: AttachmentKey): Promise<void> {
    await removeDurably(this.#file(key));
  }

  /**
   * All attachments, or those of one network. Legacy and damaged files are passed over, as libcni does: their
   * names alone do not tell network, container and interface apart.
   */
  async list(network?: string): Promise<readonly CachedAttachment[]> {
    const found: CachedAttachment[] = [];
    for (const name of await this.#names()) {
      if (name.startsWith(".") || (network !== undefined && !name.startsWith(`${network}-`))) continue;
      const file = join(this.#directory, name);
      // One by one, and not by the thread pool, which takes five times as long for a thousand small files.
      const text = readNowIfThere(file);
      if (text === undefined) continue;
      const attachment = tryDecode(text, file);
      if (attachment !== undefined && (network === undefined || attachment.network === network))
        found.push(attachment);
    }
    return found;
  }

  async #names(): Promise<readonly string[]> {
    try {
      return (await readdir(this.#directory)).sort();
    } catch (error) {
      if (errorCode(error) === "ENOENT") return [];
      throw error;
    }
  }

  #file({ network, containerId, ifName }: AttachmentKey): string {
    return join(this.#directory, `${network}-${containerId}-${ifName}`);
  }
}

function pickKey({ network, containerId, ifName }: AttachmentKey): AttachmentKey {
  return { network, containerId, ifName };
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "EISDIR") return undefined;
    throw error;
  }
}

function readNowIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "EISDIR") return undefined;
    throw error;
  }
}

function parseObject(text: string, file: string): JsonObject {
  try {
    const json: unknown = JSON.parse(text);
    if (isJsonObject(json)) return json;
  } catch (cause) {
    throw new CacheDamage(`Cannot use cached result ${file}: it is not JSON`, { cause });
  }
  throw new CacheDamage(`Cannot use cached result ${file}: it is not a JSON object`);
}

function tryDecode(text: string, file: string): CachedAttachment | undefined {
  try {
    return decode(parseObject(text, file));
  } catch {
    return undefined;
  }
}

function decode(json: JsonObject): CachedAttachment | undefined {
  const { containerId, ifName, networkName: network, result, config, netns, cniArgs, capabilityArgs } = json;
  if (json["kind"] !== kind || !isJsonObject(result)) return undefined;
  if (typeof containerId !== "string" || typeof ifName !== "string" || typeof network !== "string")
    return undefined;
  return {
    network,
    containerId,
    ifName,
    netns: typeof netns === "string" ? netns : "",
    args: Array.isArray(cniArgs) ? (cniArgs as readonly unknown[]).filter(isPair) : [],
    capabilityArgs: isJsonObject(capabilityArgs) ? capabilityArgs : {},
    config: typeof config === "string" ? Buffer.from(config, "base64").toString("utf8") : "",
    result,
  };
}

function isPair(value: unknown): value is readonly [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every((part) => typeof part === "string");
}
