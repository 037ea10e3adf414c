import { isJsonObject } from "#cni/json.ts";

/** What a sandbox is asked for beside networks and ports; the names are those of `docker run`. */
export interface SandboxSettings {
  /** Its host name; the sandbox's name if absent. */
  readonly hostname?: string;
  readonly dns: {
    readonly servers: readonly string[];
    readonly search: readonly string[];
    readonly options: readonly string[];
  };
  /** Further lines of its /etc/hosts. `host-gateway` as an address is that of the host in its first network. */
  readonly extraHosts: readonly { readonly name: string; readonly address: string }[];
  /** By key with slashes, all of them below `net/`. */
  readonly sysctls: Readonly<Record<string, string>>;
  /** Kept with it, for who made it. */
  readonly labels: Readonly<Record<string, string>>;
}

export const noSettings: SandboxSettings = {
  dns: { servers: [], search: [], options: [] },
  extraHosts: [],
  sysctls: {},
  labels: {},
};

/** As they stand in a record; whatever is damaged counts as absent. */
export function readSandboxSettings(value: unknown): SandboxSettings {
  if (!isJsonObject(value)) return noSettings;
  const { hostname, dns, extraHosts, sysctls, labels } = value;
  const texts = (list: unknown) =>
    Array.isArray(list) ? (list as readonly unknown[]).filter((each) => typeof each === "string") : [];
  const given = isJsonObject(dns) ? dns : {};
  return {
    ...(typeof hostname === "string" && hostname !== "" ? { hostname } : {}),
    dns: {
      servers: texts(given["servers"]),
      search: texts(given["search"]),
      options: texts(given["options"]),
    },
    extraHosts: Array.isArray(extraHosts)
      ? (extraHosts as readonly unknown[]).flatMap((each) => {
          if (!isJsonObject(each)) return [];
          const { name, address } = each;
          return typeof name === "string" && typeof address === "string" ? [{ name, address }] : [];
        })
      : [],
    sysctls: readTexts(sysctls),
    labels: readTexts(labels),
  };
}

function readTexts(value: unknown): Readonly<Record<string, string>> {
  if (!isJsonObject(value)) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** As `runtimeConfig.dns`, for plugins that declare the capability; undefined where nothing was asked for. */
export function dnsCapability({ dns }: SandboxSettings) {
  const { servers, search, options } = dns;
  if (servers.length + search.length + options.length === 0) return undefined;
  return {
    ...(servers.length === 0 ? {} : { servers: [...servers] }),
    ...(search.length === 0 ? {} : { searches: [...search] }),
    ...(options.length === 0 ? {} : { options: [...options] }),
  };
}
