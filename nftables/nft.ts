import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { definitionOf, type SetId } from "./element.ts";
import { type NftListing, parseNftJson } from "./json.ts";
import { elementsIn, type ListedElement } from "./listed-element.ts";
import { findProgram, ProgramError, type ProgramOptions, runProgram } from "./program.ts";
import { type TableFamily, tableName } from "./set-definition.ts";

/** MAX_ARG_STRLEN: 32 pages (include/uapi/linux/binfmts.h), less the terminating zero. */
const maxArgumentBytes = 128 * 1024 - 1;

/** The nft program in one network namespace: reads everything, and loads the skeleton. Never in a hot path. */
export class Nft {
  readonly #options: ProgramOptions;

  constructor(options: ProgramOptions = {}) {
    this.#options = options;
  }

  /** @throws {ProgramError} with `missing` if nft is not installed */
  async find(): Promise<string> {
    return findProgram("nft", this.#options.searchPath);
  }

  /**
   * Runs commands in nft's language as one transaction.
   * @throws {ProgramError}
   */
  async run(script: string): Promise<void> {
    // As an argument, where it is not too long for one: nft can't open the stdin that Node gives it, and a file has to
    // be cleaned up.
    if (Buffer.byteLength(script) <= maxArgumentBytes) {
      await runProgram("nft", [script], this.#options);
      return;
    }
    const directory = await mkdtemp(join(tmpdir(), "netctl-nft-"));
    try {
      const file = join(directory, "script.nft");
      await writeFile(file, script, { mode: 0o600 });
      await runProgram("nft", ["-f", file], this.#options);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  /** Everything in the namespace, foreign tables included. Like `nft -j list ruleset`. */
  async listRuleset(): Promise<NftListing> {
    return await this.#list("list", "ruleset");
  }

  /** One table; `undefined` if there is none. Like `nft -j list table FAMILY NAME`. */
  async listTable(family: string, name: string): Promise<NftListing | undefined> {
    return await this.#listIfThere("list", "table", family, name);
  }

  /** One set or map; `undefined` if there is none. Like `nft -j list set FAMILY TABLE NAME`. */
  async listSet(
    family: string,
    table: string,
    name: string,
    kind: "set" | "map",
  ): Promise<NftListing | undefined> {
    return await this.#listIfThere("list", kind, family, table, name);
  }

  /** Our table of one family without its elements; `undefined` if there is none. */
  async listSkeleton(family: TableFamily): Promise<NftListing | undefined> {
    return await this.#listIfThere("--terse", "list", "table", family, tableName);
  }

  /** All elements of one of our sets; none if it is not there. */
  async listElements(id: SetId): Promise<readonly ListedElement[]> {
    const { family, name, value } = definitionOf(id);
    const listing = await this.listSet(family, tableName, name, value ? "map" : "set");
    return listing ? elementsIn(listing, id) : [];
  }

  async #list(...command: readonly string[]): Promise<NftListing> {
    return parseNftJson(await runProgram("nft", ["-j", ...command], this.#options));
  }

  async #listIfThere(...command: readonly string[]): Promise<NftListing | undefined> {
    try {
      return await this.#list(...command);
    } catch (error) {
      if (error instanceof ProgramError && /no such file or directory/i.test(error.stderr)) return undefined;
      throw error;
    }
  }
}
