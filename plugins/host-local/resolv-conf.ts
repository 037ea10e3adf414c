import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { CniDns } from "#cni/result.ts";

/** Any larger one is none. */
const maxBytes = 1024 * 1024;

/** Reads what a resolv.conf(5) says. @throws {CniError} 5 if the file can't be read, or is no file that ends */
export function readResolvConf(path: string): CniDns {
  let text: string;
  try {
    text = readRegularFile(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CniError(
      ErrorCode.IoFailure,
      `Cannot read ipam.resolvConf ${JSON.stringify(path)}: ${reason}`,
      { cause },
    );
  }
  return parseResolvConf(text);
}

/** A pipe or a device could keep a service, and all that it does, waiting for ever. */
function readRegularFile(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw new Error("it is no regular file");
    if (stats.size > maxBytes) throw new Error(`it has ${stats.size} bytes, ${maxBytes} is the most`);
    return readFileSync(fd, "utf8");
  } finally {
    closeSync(fd);
  }
}

/** Words of nameserver, search and options add up over lines, of domain the last counts. "#" and ";" begin a comment. */
export function parseResolvConf(text: string): CniDns {
  const nameservers: string[] = [];
  const search: string[] = [];
  const options: string[] = [];
  let domain = "";
  for (const line of text.split("\n")) {
    const [keyword = "", ...words] = line.trim().split(/\s+/);
    const [first] = words;
    if (first === undefined || /^[#;]/.test(keyword)) continue;
    if (keyword === "nameserver") nameservers.push(first);
    else if (keyword === "domain") domain = first;
    else if (keyword === "search") search.push(...words);
    else if (keyword === "options") options.push(...words);
  }
  return {
    ...(nameservers.length > 0 ? { nameservers } : {}),
    ...(domain ? { domain } : {}),
    ...(search.length > 0 ? { search } : {}),
    ...(options.length > 0 ? { options } : {}),
  };
}
