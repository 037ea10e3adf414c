import type { CniDns, CniResult } from "#cni/result.ts";
import { formatIp } from "#net/ip.ts";

/** /etc/hosts of a sandbox: localhost, and its own name at each of its addresses. */
export function renderHosts(name: string, results: readonly CniResult[]): string {
  const own = results.flatMap(({ ips }) =>
    ips.map(({ address }) => `${formatIp(address.address)}\t${name}\n`),
  );
  return ["127.0.0.1\tlocalhost\n", "::1\tlocalhost ip6-localhost ip6-loopback\n", ...own].join("");
}

/** /etc/resolv.conf from what the networks answered, in their order; undefined if none named a server. */
export function renderResolvConf(results: readonly CniResult[]): string | undefined {
  const gather = (key: "nameservers" | "search" | "options") => [
    ...new Set(results.flatMap(({ dns }) => dns[key] ?? [])),
  ];
  const servers = gather("nameservers");
  if (servers.length === 0) return undefined;
  const domain = results
    .map(({ dns }: { readonly dns: CniDns }) => dns.domain)
    .find((text) => text !== undefined && text !== "");
  const search = gather("search");
  const options = gather("options");
  return [
    ...(domain === undefined ? [] : [`domain ${domain}\n`]),
    ...(search.length === 0 ? [] : [`search ${search.join(" ")}\n`]),
    ...servers.map((server) => `nameserver ${server}\n`),
    ...(options.length === 0 ? [] : [`options ${options.join(" ")}\n`]),
  ].join("");
}
