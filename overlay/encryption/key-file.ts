import { readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { writeDurably } from "#machine/durable-file.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import { keyBytes } from "./key.ts";

/** Which of the host's two WireGuard devices: one is enough but for while a key is replaced by another. */
export type Slot = "a" | "b";

const privateKey = v.pipe(
  v.string(),
  v.check((text) => {
    try {
      return keyBytes(text).length === 32;
    } catch {
      return false;
    }
  }, "not the base64 of 32 bytes"),
);

const schema = v.object({
  v: v.literal(1),
  /** Oldest first. */
  keys: v.pipe(
    v.array(
      v.object({
        slot: v.picklist(["a", "b"]),
        privateKey,
        /** UDP */
        port: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535)),
        /** No longer told to others; what is still under way is taken. */
        isRetired: v.optional(v.boolean(), false),
      }),
    ),
    v.maxLength(2),
  ),
});
export type OwnKey = v.InferOutput<typeof schema>["keys"][number];

/** This host's private keys, readable by root alone. They never leave it. */
export class KeyFile {
  readonly #path: string;
  readonly #directory: string;

  /** @param directory the overlay's */
  constructor(directory: string) {
    this.#directory = directory;
    this.#path = join(directory, "wireguard.json");
  }

  /** @returns none where there is no file @throws {IoError} also for one that is not as it should be: never guessed at */
  read(): readonly OwnKey[] {
    let text: string;
    try {
      text = readFileSync(this.#path, "utf8");
    } catch (error) {
      if (errorCode(error) === "ENOENT") return [];
      throw new IoError("read", this.#path, error);
    }
    try {
      return v.parse(schema, JSON.parse(text)).keys;
    } catch (error) {
      // Not the parser's words, which may quote a key.
      throw new IoError("read the keys in", this.#path, new Error("damaged", { cause: error }));
    }
  }

  /** @throws {IoError} */
  async write(keys: readonly OwnKey[]): Promise<void> {
    const text = `${JSON.stringify({ v: 1, keys }, undefined, 2)}\n`;
    await writeDurably(this.#path, text, { mode: 0o600, directoryMode: 0o700 });
  }

  async remove(): Promise<void> {
    await rm(this.#path, { force: true });
  }

  /** Another key is asked for by this file's being there, among what the agent is asked for. */
  get wishPath(): string {
    return join(this.#directory, "wanted", ".rotate-key");
  }
}
