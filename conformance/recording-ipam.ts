import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import type { JsonObject, JsonValue } from "#cni/json.ts";
import { isObject } from "./printed-result.ts";

export interface RecordedCall {
  readonly verb: string;
  readonly environment: Readonly<Record<string, string>>;
  /** Byte for byte. */
  readonly stdin: string;
  readonly config: JsonObject;
}

/**
 * An IPAM executable of the kit's own: a shell script that writes down how it was called and answers what the
 * case told it. Proves that a plugin delegates to whatever the config names.
 */
export class RecordingIpam {
  readonly type: string;
  readonly #records: string;

  private constructor(type: string, records: string) {
    this.type = type;
    this.#records = records;
  }

  /** Puts the script under the name `type` into `binDirectory`; it records below `recordsDirectory`. */
  static async install(type: string, binDirectory: string, recordsDirectory: string): Promise<RecordingIpam> {
    const records = `${recordsDirectory}/${type}`;
    await mkdir(records, { recursive: true });
    await mkdir(binDirectory, { recursive: true });
    const file = `${binDirectory}/${type}`;
    await writeFile(
      file,
      `#!/bin/sh
at=$(date +%s%N)-$$
cat > '${records}'/$at.stdin
env > '${records}'/$at.env
echo "stderr of ${type}" >&2
reply='${records}'/$CNI_COMMAND
[ -f $reply.hang ] && exec sleep 5 >/dev/null 2>&1
[ -f $reply.out ] && cat $reply.out
[ -f $reply.exit ] && exit $(cat $reply.exit)
exit 0
`,
    );
    await chmod(file, 0o755);
    return new RecordingIpam(type, records);
  }

  /** What it prints for `verb` from now on; with an exit code other than 0, as an error. */
  async answer(verb: string, output: JsonValue | string, exitCode = 0): Promise<void> {
    const printed = typeof output === "string" ? output : JSON.stringify(output);
    await writeFile(`${this.#records}/${verb}.out`, printed);
    await writeFile(`${this.#records}/${verb}.exit`, String(exitCode));
  }

  /** Makes `verb` record and then sleep, so that the caller can be killed in the middle of its work. */
  async hang(verb: string): Promise<void> {
    await writeFile(`${this.#records}/${verb}.hang`, "");
  }

  /** Its calls in order. */
  async calls(verb?: string): Promise<readonly RecordedCall[]> {
    const names = (await readdir(this.#records)).filter((name) => name.endsWith(".env")).sort();
    const calls: RecordedCall[] = [];
    for (const name of names) {
      const stdin = await readFile(`${this.#records}/${name.replace(/\.env$/, ".stdin")}`, "utf8");
      const lines = (await readFile(`${this.#records}/${name}`, "utf8")).split("\n");
      const environment = Object.fromEntries(
        lines
          .filter((line) => line.includes("="))
          .map((line) => {
            const at = line.indexOf("=");
            return [line.slice(0, at), line.slice(at + 1)];
          }),
      );
      calls.push({ verb: environment["CNI_COMMAND"] ?? "", environment, stdin, config: parse(stdin) });
    }
    return verb === undefined ? calls : calls.filter((call) => call.verb === verb);
  }
}

function parse(stdin: string): JsonObject {
  try {
    const value = JSON.parse(stdin) as JsonValue;
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}
