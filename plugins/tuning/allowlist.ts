import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { Directories } from "#machine/directories.ts";
import { errorCode, IoError } from "#machine/io-error.ts";
import { dottedKey, type SysctlKey } from "./sysctl-key.ts";

/** /etc/cni/tuning/allowlist.conf: beside the directory of the network configurations. */
export function allowlistPath(directories: Pick<Directories, "conf">): string {
  return join(dirname(directories.conf), "tuning/allowlist.conf");
}

/**
 * Refuses keys that the host's administrator has not allowed. The file has one regular expression a line, which has to
 * match a whole key as it stands in configurations, with its IFNAME. Without a file everything below net is allowed.
 * @throws {CniError} 7 naming the key, or the line that is no expression
 * @throws {IoError}
 */
export function refuseForbiddenKeys(keys: readonly SysctlKey[], path: string): void {
  if (keys.length === 0) return;
  const lines = readLines(path);
  if (!lines) return;
  const patterns = lines.map((line) => parsePattern(line, path));
  for (const key of keys) {
    const forms = [key.path, dottedKey(key)];
    if (patterns.some((pattern) => forms.some((form) => pattern.test(form)))) continue;
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Sysctl ${key.text} is not allowed. Only the following sysctls are allowed: [${lines.join(" ")}]`,
      { details: `each line of ${path} has to match the whole key` },
    );
  }
}

function readLines(path: string): readonly string[] | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    if (errorCode(cause) === "ENOENT" || errorCode(cause) === "ENOTDIR") return undefined;
    throw new IoError("read list of allowed sysctls", path, cause);
  }
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

function parsePattern(line: string, path: string): RegExp {
  try {
    return new RegExp(`^(?:${line})$`);
  } catch (cause) {
    throw new CniError(
      ErrorCode.InvalidNetworkConfig,
      `Cannot use list of allowed sysctls ${JSON.stringify(path)}: ${JSON.stringify(line)} is no regular expression`,
      { cause },
    );
  }
}
