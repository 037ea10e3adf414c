import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { JsonObject } from "#cni/json.ts";

/** One call as a scripted plugin saw it. */
export interface RecordedCall {
  readonly type: string;
  readonly verb: string;
  readonly stdin: JsonObject;
  readonly environment: Readonly<Record<string, string>>;
}

/** Executables that answer what a test tells them and record what they were asked: a chain without a kernel. */
export class ScriptedPlugins {
  /** For CNI_PATH. */
  readonly bin: string;
  readonly #calls: string;
  readonly #replies: string;

  private constructor(directory: string) {
    this.bin = join(directory, "bin");
    this.#calls = join(directory, "calls");
    this.#replies = join(directory, "replies");
  }

  /** Makes the executables below a directory of the test. Without a reply they print nothing and succeed. */
  static async make(directory: string, types: readonly string[]): Promise<ScriptedPlugins> {
    const plugins = new ScriptedPlugins(directory);
    for (const folder of [plugins.bin, plugins.#calls, plugins.#replies])
      await mkdir(folder, { recursive: true });
    for (const type of types) await writeFile(join(plugins.bin, type), plugins.#script(), { mode: 0o755 });
    return plugins;
  }

  /** What a plugin answers to a verb from now on. */
  async answer(type: string, verb: string, reply: JsonObject, exitCode = 0): Promise<void> {
    await writeFile(join(this.#replies, `${type}-${verb}`), JSON.stringify(reply));
    await writeFile(join(this.#replies, `${type}-${verb}.exit`), String(exitCode));
  }

  /** The calls so far, in order. */
  async calls(): Promise<readonly RecordedCall[]> {
    const names = (await readdir(this.#calls)).filter((name) => !name.endsWith(".env")).sort();
    return await Promise.all(
      names.map(async (name) => {
        const environment = (await readFile(join(this.#calls, `${name}.env`), "utf8")).split("\n");
        const [, type = "", verb = ""] = /^\d+-(.*)-([A-Z]+)$/.exec(name) ?? [];
        return {
          type,
          verb,
          stdin: JSON.parse(await readFile(join(this.#calls, name), "utf8")) as JsonObject,
          environment: Object.fromEntries(
            environment
              .filter((line) => line.includes("="))
              .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
          ),
        };
      }),
    );
  }

  /** "bridge ADD", … in order. */
  async sequence(): Promise<readonly string[]> {
    return (await this.calls()).map(({ type, verb }) => `${type} ${verb}`);
  }

  #script(): string {
    return [
      "#!/bin/sh",
      'name="${0##*/}-$CNI_COMMAND"',
      `set -- "${this.#calls}"/*-[A-Z]*`,
      '[ -e "$1" ] || shift',
      `call="${this.#calls}/$(printf %04d $#)-$name"`,
      'cat > "$call"',
      'env > "$call.env"',
      `[ -e "${this.#replies}/$name" ] || exit 0`,
      `cat "${this.#replies}/$name"`,
      `exit "$(cat "${this.#replies}/$name.exit")"`,
      "",
    ].join("\n");
  }
}
