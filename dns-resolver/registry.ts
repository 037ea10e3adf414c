import { readdirSync, readFileSync, unlinkSync } from "node:fs";
import { errorCode, IoError } from "#machine/io-error.ts";
import { makeDirectory } from "#machine/make-directory.ts";
import { replaceFile } from "#machine/replace-file.ts";
import { sha256Hex } from "#machine/sha256.ts";

/** Which attachment: one interface of one container in one network. */
export interface NameKey {
  readonly network: string;
  readonly containerId: string;
  readonly ifName: string;
}

/** A network namespace, as long as it lives. */
export interface NamespaceId {
  readonly dev: number;
  readonly ino: number;
}

/** What one attachment is called, for the others of its network. */
export interface NamedAttachment extends NameKey {
  /** In lower case; the first is what a PTR query gets. May be empty. */
  readonly names: readonly string[];
  /** Of the container, in this network, with the prefix length of its subnet: `10.1.0.2/24`. */
  readonly addresses: readonly string[];
  /** A domain below which the network's names are, too. */
  readonly domain?: string;
}

/** What one attachment gives to others, and may ask: one file in the registry. */
export interface NameEntry extends NamedAttachment {
  /** The container's network namespace, as CNI_NETNS named it. */
  readonly netns: NamespaceId & { readonly path: string };
  /** Where the resolver listens on 127.0.0.11 in that namespace. */
  readonly port: number;
  /** Nothing is forwarded for a container all of whose networks are. */
  readonly isInternal: boolean;
  /** Servers to forward to, from the container's namespace; none: those of the host, from the host's. */
  readonly servers: readonly string[];
  /** Milliseconds since 1970: networks of a container are in the order in which it joined them. */
  readonly createdAtMs: number;
}

/** Why names can't be served, in one sentence. */
export class NameServiceError extends Error {
  override readonly name = "NameServiceError";
  /** False where another try can't help. */
  readonly isTemporary: boolean;

  constructor(message: string, options: { readonly cause?: unknown; readonly isTemporary?: boolean } = {}) {
    super(message, { cause: options.cause });
    this.isTemporary = options.isTemporary ?? false;
  }
}

/** How a plugin makes names known. In netd it speaks to the resolver; elsewhere through the registry to netd. */
export interface NameService {
  /**
   * Writes the entry, and returns when the resolver answers by it, in that container and for all others. Replaces an
   * earlier one of the same attachment.
   * @throws {NameServiceError} nothing is left of it
   * @throws {IoError} the registry can't be written
   */
  publish(entry: NameEntry): Promise<void>;
  /**
   * Takes it away, and returns when the names are gone and the resolver has let go of the namespace. Does nothing where
   * there is none. @throws {IoError}
   */
  withdraw(key: NameKey): Promise<void>;
  /** Entries whose container is in that namespace. */
  inNamespace(namespace: NamespaceId): readonly NameEntry[];
  /** Entries of one network. */
  inNetwork(network: string): readonly NameEntry[];
  /** @throws {NameServiceError} where no resolver answers, and none can be started */
  probe(): Promise<void>;
}

const suffix = ".json";

/** Where the entries of one host's network namespace are, below the run directory: after a reboot there are none. */
export function registryDirectory(
  runDirectory: string,
  hostNamespace: { readonly ino: number | bigint },
): string {
  return `${runDirectory}/names-${hostNamespace.ino}`;
}

/** One JSON file for each entry, complete whenever it is seen. All methods throw `IoError` where the disk refuses. */
export class NameRegistry {
  readonly directory: string;

  /** @param directory `registryDirectory()`; made on first use */
  constructor(directory: string) {
    this.directory = directory;
  }

  write(entry: NameEntry): void {
    const path = this.pathOf(entry);
    const text = `${JSON.stringify(entry)}\n`;
    try {
      try {
        replaceFile(path, text, 0o600);
      } catch (error) {
        if (errorCode(error) !== "ENOENT") throw error;
        makeDirectory(this.directory, 0o700);
        replaceFile(path, text, 0o600);
      }
    } catch (cause) {
      throw new IoError("write names", path, cause);
    }
  }

  /** @returns false if there was none */
  remove(key: NameKey): boolean {
    const path = this.pathOf(key);
    try {
      unlinkSync(path);
      return true;
    } catch (cause) {
      if (errorCode(cause) === "ENOENT") return false;
      throw new IoError("remove names", path, cause);
    }
  }

  read(key: NameKey): NameEntry | undefined {
    return this.#readFile(this.pathOf(key));
  }

  /** In the order in which they were made. Files that are no entries are passed over. */
  list(): readonly NameEntry[] {
    let files: string[];
    try {
      files = readdirSync(this.directory);
    } catch (cause) {
      if (errorCode(cause) === "ENOENT") return [];
      throw new IoError("list names", this.directory, cause);
    }
    return files
      .filter((file) => file.endsWith(suffix) && !file.startsWith("."))
      .flatMap((file) => this.#readFile(`${this.directory}/${file}`) ?? [])
      .sort((a, b) => a.createdAtMs - b.createdAtMs || (keyText(a) < keyText(b) ? -1 : 1));
  }

  pathOf(key: NameKey): string {
    return `${this.directory}/${sha256Hex(keyText(key)).slice(0, 32)}${suffix}`;
  }

  #readFile(path: string): NameEntry | undefined {
    try {
      return decodeEntry(JSON.parse(readFileSync(path, "utf8")));
    } catch (cause) {
      // It has gone since the directory was read, or is half of one that a full disk has left.
      if (errorCode(cause) === "ENOENT" || cause instanceof SyntaxError) return undefined;
      throw new IoError("read names", path, cause);
    }
  }
}

/** One text for each attachment: none of the three may have a "/" in it. */
export function keyText({ network, containerId, ifName }: NameKey): string {
  return `${network}/${containerId}/${ifName}`;
}

function decodeEntry(value: unknown): NameEntry | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const entry = value as Partial<Record<keyof NameEntry, unknown>>;
  const { netns } = entry as { netns?: Partial<Record<"path" | "dev" | "ino", unknown>> };
  const isEntry =
    (["network", "containerId", "ifName"] as const).every((key) => typeof entry[key] === "string") &&
    (["names", "addresses", "servers"] as const).every((key) => isTextList(entry[key])) &&
    typeof entry.port === "number" &&
    typeof entry.isInternal === "boolean" &&
    typeof entry.createdAtMs === "number" &&
    (entry.domain === undefined || typeof entry.domain === "string") &&
    typeof netns === "object" &&
    typeof netns.path === "string" &&
    typeof netns.dev === "number" &&
    typeof netns.ino === "number";
  return isEntry ? (value as NameEntry) : undefined;
}

function isTextList(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}

/** A container's name as others may ask for it: lower case, without a dot at the end; undefined for what no host can be called. */
export function normalizeHostName(name: string): string | undefined {
  const lower = name.toLowerCase().replace(/\.$/, "");
  const isValid =
    lower.length <= 253 &&
    lower.split(".").every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label));
  return isValid ? lower : undefined;
}
