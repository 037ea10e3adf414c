import type { JsonObject, JsonValue } from "#cni/json.ts";
import type { Completed } from "./command.ts";
import { expect, Failure } from "./failure.ts";
import { isObject, show } from "./printed-result.ts";

/** Error codes of SPEC 1.1.0, section "Error", written down here once more to be independent of `cni/`. */
export const code = {
  incompatibleVersion: 1,
  invalidEnvironment: 4,
  ioFailure: 5,
  decodingFailure: 6,
  invalidConfig: 7,
  /** In libcni's skel only. */
  invalidNamespace: 8,
  notAvailable: 50,
} as const;

export interface PrintedError {
  readonly code: number;
  readonly msg: string;
  readonly details: string;
  readonly json: JsonObject;
}

/** What came out of one call of an executable. */
export class Reply {
  readonly completed: Completed;
  /** "bridge ADD" */
  readonly what: string;

  constructor(what: string, completed: Completed) {
    this.what = what;
    this.completed = completed;
  }

  get succeeded(): boolean {
    return this.completed.exitCode === 0;
  }

  get stdout(): string {
    return this.completed.stdout;
  }

  get stderr(): string {
    return this.completed.stderr;
  }

  /** The object that was printed, if stdout is one JSON object and nothing else. */
  get json(): JsonObject | undefined {
    try {
      const value = JSON.parse(this.stdout) as JsonValue;
      return isObject(value) ? value : undefined;
    } catch {
      return undefined;
    }
  }

  /** @throws {Failure} unless it ended by itself, with exit code 0 */
  expectSuccess(): this {
    this.#expectEnded();
    if (!this.succeeded) throw new Failure(`${this.what} failed: ${this.#reason()}`);
    return this;
  }

  /** @throws {Failure} unless it succeeded and printed nothing, as every verb but ADD and VERSION must */
  expectSilence(): this {
    this.expectSuccess();
    expect(this.stdout.trim() === "", `${this.what} printed ${show(this.stdout)}, expected nothing`);
    return this;
  }

  /** @throws {Failure} unless it succeeded and printed one JSON object and nothing else */
  expectJson(): JsonObject {
    this.expectSuccess();
    const json = this.json;
    expect(json !== undefined, `${this.what} printed ${show(this.stdout)}, expected one JSON object`);
    return json;
  }

  /**
   * Demands a refusal by SPEC, "Error": exit code not 0, one JSON object on stdout with a numeric code and a
   * message. `names` must match message or details; `code` the code.
   */
  expectError(
    wanted: { readonly code?: number | readonly number[]; readonly names?: RegExp | readonly RegExp[] } = {},
  ): PrintedError {
    this.#expectEnded();
    expect(!this.succeeded, `${this.what} succeeded, expected an error`);
    const json = this.json;
    expect(
      json !== undefined,
      `${this.what} failed without one JSON object on stdout: stdout ${show(this.stdout)}, stderr ${show(this.stderr.trim())}`,
    );
    const { code: number, msg, details = "" } = json;
    expect(typeof number === "number", `the error's code is ${show(number)}, expected a number`);
    expect(typeof msg === "string" && msg !== "", `the error's msg is ${show(msg)}, expected a text`);
    expect(typeof details === "string", `the error's details are ${show(details)}, expected a text`);
    if (wanted.code !== undefined) {
      const codes = typeof wanted.code === "number" ? [wanted.code] : wanted.code;
      expect(
        codes.includes(number),
        `the error has code ${number} (${show(msg)}), expected ${codes.join(" or ")}`,
      );
    }
    const names = wanted.names ?? [];
    for (const name of names instanceof RegExp ? [names] : names) {
      expect(
        name.test(`${msg} ${details}`),
        `the error ${show(`${msg} ${details}`.trim())} does not name ${name}`,
      );
    }
    return { code: number, msg, details, json };
  }

  #expectEnded(): void {
    const { timedOut, signal } = this.completed;
    expect(
      !timedOut,
      `${this.what} did not end, or left its stdout open, for ${Math.round(this.completed.durationMs / 1000)} s`,
    );
    expect(signal === undefined, `${this.what} was ended by ${String(signal)}`);
  }

  #reason(): string {
    const json = this.json;
    if (json === undefined) return show(this.stdout.trim() || this.stderr.trim());
    const { code: number, msg, details } = json;
    return `code ${show(number)}, ${show(
      [msg, details]
        .filter((part) => typeof part === "string")
        .join(" ")
        .trim(),
    )}`;
  }
}
