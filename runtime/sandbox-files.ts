import type { CniDns, CniResult } from "#cni/result.ts";
import { formatIp } from "#net/ip.ts";

/** /etc/hosts of a sandbox: localhost, and its own name at each of its addresses. */
export function renderHosts(name: string, results: readonly CniResult[]): string {
  const own = results.flatMap(({ ips }) =>
    ips.map(({ address }) => `${formatIp(address.address)}\t${name}\n`),
  );
  return ["127.0.0.1\tlocalhost\n", "::1\tlocalhost ip6-localhost ip6-loopback\n", ...own].join("");
}

/** Where netd answers in every container of a network with names. */
const resolver = "127.0.0.11";

/**
 * /etc/resolv.conf from what the networks answered, in their order; undefined if none named a server. The resolver
 * stands alone, since it asks the others itself; with it come the host's search domains and options, where no network
 * names any, as in Docker.
 * @param host the host's resolv.conf
 */
export function renderResolvConf(results: readonly CniResult[], host = ""): string | undefined {
  const gather = (key: "nameservers" | "search" | "options") => [
    ...new Set(results.flatMap(({ dns }) => dns[key] ?? [])),
  ];
  const named = gather("nameservers");
  if (named.length === 0) return undefined;
  const isResolved = named.includes(resolver);
  const servers = isResolved ? [resolver] : named;
  const domain = results
    .map(({ dns }: { readonly dns: CniDns }) => dns.domain)
    .find((text) => text !== undefined && text !== "");
  const orHosts = (key: "search" | "options") => {
    const isSaid = results.some(({ dns }) => dns[key] !== undefined);
    return isSaid || !isResolved ? gather(key) : wordsOf(host, key);
  };
  const search = orHosts("search");
  const options = orHosts("options");
  return [
    ...(domain === undefined ? [] : [`domain ${domain}\n`]),
    ...(search.length === 0 ? [] : [`search ${search.join(" ")}\n`]),
    ...servers.map((server) => `nameserver ${server}\n`),
    ...(options.length === 0 ? [] : [`options ${options.join(" ")}\n`]),
  ].join("");
}

/** The words of the last line of a resolv.conf with that keyword (resolv.conf(5)). */
function wordsOf(text: string, keyword: string): readonly string[] {
  const lines = text.split("\n").map((line) => line.trim().split(/\s+/));
  return lines.findLast(([first]) => first === keyword)?.slice(1) ?? [];
}
