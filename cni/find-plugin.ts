import { type Stats, statSync } from "node:fs";
import { CniError, ErrorCode } from "./error.ts";

/**
 * The executable of a plugin: the first regular file of that name in the directories of CNI_PATH that anybody may
 * execute.
 * @param type as a configuration names it, e.g. "host-local"
 * @throws {CniError} 7 for a name that is none, 4 where there is no path or nothing in it
 */
export function findPlugin(type: string, path: readonly string[]): string {
  return locatePlugin(type, path).file;
}

/** The same with what stat(2) says of the file. */
export function locatePlugin(
  type: string,
  path: readonly string[],
): { readonly file: string; readonly stats: Stats } {
  if (type === "") throw new CniError(ErrorCode.InvalidNetworkConfig, "no plugin name provided");
  if (type.includes("/") || type.includes("\0") || type === "." || type === "..") {
    throw new CniError(ErrorCode.InvalidNetworkConfig, `invalid plugin name: ${JSON.stringify(type)}`);
  }
  if (path.length === 0) {
    throw new CniError(
      ErrorCode.InvalidEnvironment,
      `failed to find plugin ${JSON.stringify(type)}: required env variables [CNI_PATH] missing`,
    );
  }
  const passedOver: string[] = [];
  for (const directory of path) {
    const file = `${directory}/${type}`;
    const found = look(file);
    if (typeof found !== "string") return { file, stats: found };
    if (found !== "") passedOver.push(`${file} ${found}`);
  }
  throw new CniError(
    ErrorCode.InvalidEnvironment,
    `failed to find plugin ${JSON.stringify(type)} in path [${path.join(" ")}]`,
    { details: passedOver.join(", ") },
  );
}

/** What it is, for a file that can be run; else why not, "" where there is none. */
function look(file: string): Stats | string {
  try {
    const stats = statSync(file, { throwIfNoEntry: false });
    if (!stats) return "";
    if (!stats.isFile()) return "is no regular file";
    return (stats.mode & 0o111) === 0 ? "is not executable" : stats;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    return code === "ENOTDIR" ? "" : `can't be read (${String(code ?? error)})`;
  }
}
