import type { CniDns, CniResult } from "#cni/result.ts";
import { formatIp } from "#net/ip.ts";
import { noSettings, type SandboxSettings } from "./sandbox-settings.ts";

/** /etc/hosts of a sandbox: localhost, its own name at each of its addresses, and what else was asked for. */
export function renderHosts(
  name: string,
  results: readonly CniResult[],
  { hostname = name, extraHosts }: Pick<SandboxSettings, "hostname" | "extraHosts"> = noSettings,
): string {
  const ips = results.flatMap((result) => result.ips);
  const names = hostname === name ? name : `${hostname} ${name}`;
  const own = ips.map(({ address }) => `${formatIp(address.address)}\t${names}\n`);
  const gateway = ips.map((ip) => ip.gateway).find((each) => each !== undefined);
  const extra = extraHosts.flatMap(({ name, address }) => {
    if (address !== "host-gateway") return [`${address}\t${name}\n`];
    return gateway === undefined ? [] : [`${formatIp(gateway)}\t${name}\n`];
  });
  return ["127.0.0.1\tlocalhost\n", "::1\tlocalhost ip6-localhost ip6-loopback\n", ...own, ...extra].join("");
}

/** Where netd answers in every container of a network with names. */
const resolver = "127.0.0.11";

/**
 * /etc/resolv.conf from what the networks answered, in their order; undefined if none named a server. The resolver
 * stands alone, since it asks the others itself; with it come the host's search domains and options, where no network
 * names any, as in Docker.
 * @param host the host's resolv.conf
 * @param asked for this sandbox: before what the networks say, but for the resolver, which is told
 */
export function renderResolvConf(
  results: readonly CniResult[],
  host = "",
  asked: SandboxSettings["dns"] = noSettings.dns,
): string | undefined {
  const gather = (key: "nameservers" | "search" | "options") => [
    ...new Set(results.flatMap(({ dns }) => dns[key] ?? [])),
  ];
  const isAsked = asked.servers.length + asked.search.length + asked.options.length > 0;
  const inNetworks = gather("nameservers");
  const isResolved = inNetworks.includes(resolver);
  if (inNetworks.length === 0 && !isAsked) return undefined;
  const named =
    [asked.servers, inNetworks, wordsOfAll(host, "nameserver")].find((each) => each.length > 0) ?? [];
  const servers = isResolved ? [resolver] : named;
  const domain = results
    .map(({ dns }: { readonly dns: CniDns }) => dns.domain)
    .find((text) => text !== undefined && text !== "");
  const orHosts = (key: "search" | "options") => {
    // "." is Docker's word for none.
    if (asked[key].length > 0) return asked[key].filter((each) => each !== ".");
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

/** The first word after the keyword, of each of its lines. */
function wordsOfAll(text: string, keyword: string): readonly string[] {
  const lines = text.split("\n").map((line) => line.trim().split(/\s+/));
  return lines.flatMap(([first, second]) => (first === keyword && second !== undefined ? [second] : []));
}

/** The words of the last line of a resolv.conf with that keyword (resolv.conf(5)). */
function wordsOf(text: string, keyword: string): readonly string[] {
  const lines = text.split("\n").map((line) => line.trim().split(/\s+/));
  return lines.findLast(([first]) => first === keyword)?.slice(1) ?? [];
}
