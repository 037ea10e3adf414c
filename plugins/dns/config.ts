import * as v from "valibot";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { NetworkConfig } from "#cni/plugin.ts";
import type { CniDns } from "#cni/result.ts";
import { goObject, parseConfig } from "#cni/schema.ts";
import { ip, parsedText, textList } from "#cni/schema-values.ts";
import { normalizeHostName } from "#dns-resolver/registry.ts";
import { formatIp } from "#net/ip.ts";

/** The network configuration with every default filled in. */
export interface DnsConfig {
  /** Nothing leaves the host on behalf of a container that has internal networks only. */
  readonly isInternal: boolean;
  /** Below which the network's names are as well. */
  readonly domain: string | undefined;
  /** Servers for all other names; empty: those of the result before, else the host's. */
  readonly servers: readonly string[];
  /** As configured or asked for; absent fields keep what the result before has. */
  readonly search: readonly string[] | undefined;
  readonly options: readonly string[] | undefined;
  readonly resolvDomain: string | undefined;
  /** Further names in this network. */
  readonly aliases: readonly string[];
}

const hostName = parsedText((text) => {
  const name = normalizeHostName(text);
  if (name === undefined) throw new RangeError(`${JSON.stringify(text)} is no domain name`);
  return name;
});

const servers = v.array(ip);

/** The fields of its configuration, for who looks for others. */
export const schema = goObject({
  internal: v.optional(v.boolean(), false),
  domainName: v.optional(hostName),
  dns: v.optional(
    goObject({
      nameservers: v.optional(servers),
      domain: v.optional(v.string()),
      search: v.optional(textList),
      options: v.optional(textList),
    }),
  ),
});

const capabilities = goObject({
  dns: v.optional(
    goObject({
      servers: v.optional(servers),
      searches: v.optional(textList),
      options: v.optional(textList),
    }),
  ),
  // By network, as the convention has it; a plain list is meant for this one.
  aliases: v.optional(v.union([v.record(v.string(), textList), textList])),
});

/** @throws {CniError} 7 with the field and its value */
export function parseDnsConfig(network: NetworkConfig): DnsConfig {
  const raw = parseConfig(schema, network.json, { what: "dns configuration" });
  const asked = parseConfig(capabilities, network.runtimeConfig, { what: "runtimeConfig" });
  const { aliases = [] } = asked;
  const own = Array.isArray(aliases) ? aliases : ((aliases as Record<string, string[]>)[network.name] ?? []);
  const chosen = nonEmpty(asked.dns?.servers) ?? raw.dns?.nameservers ?? [];
  return {
    isInternal: raw.internal,
    domain: raw.domainName,
    servers: chosen.map(formatIp),
    search: nonEmpty(asked.dns?.searches) ?? raw.dns?.search,
    options: nonEmpty(asked.dns?.options) ?? raw.dns?.options,
    resolvDomain: raw.dns?.domain,
    aliases: (own as readonly string[]).map((name) => requireName(name, "aliases")),
  };
}

function nonEmpty<Item>(list: readonly Item[] | undefined): readonly Item[] | undefined {
  return list && list.length > 0 ? list : undefined;
}

function requireName(text: string, field: string): string {
  const name = normalizeHostName(text);
  if (name !== undefined) return name;
  throw new CniError(
    ErrorCode.InvalidNetworkConfig,
    `Cannot use dns configuration: "${field}" ${JSON.stringify(text)} is no host name`,
  );
}

/** `dns` of the result: the resolver alone; search domains and options as the user set them, else as before. */
export function resultDns(config: DnsConfig, before: CniDns, resolver: string): CniDns {
  const search = config.search ?? before.search;
  const options = config.options ?? before.options;
  const domain = config.resolvDomain ?? before.domain;
  return {
    nameservers: [resolver],
    ...(domain === undefined ? {} : { domain }),
    ...(search === undefined ? {} : { search: search.filter((each) => each !== ".") }),
    ...(options === undefined ? {} : { options }),
  };
}
