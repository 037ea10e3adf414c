import { readFileSync } from "node:fs";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { CniDns } from "#cni/result.ts";

/** Reads what a resolv.conf(5) says. @throws {CniError} 5 if the file can't be read */
export function readResolvConf(path: string): CniDns {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
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
