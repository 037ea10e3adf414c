import { basename } from "node:path";
import { parseDocument } from "yaml";
import { isJsonObject } from "#cni/json.ts";
import { UsageFailure } from "#netctl/failure.ts";
import { interpolateAll } from "./interpolate.ts";
import type {
  ComposeEndpoint,
  ComposeNetwork,
  ComposeProject,
  ComposeService,
  ComposeSubnet,
} from "./model.ts";

type Fields = Readonly<Record<string, unknown>>;

export interface ReadOptions {
  readonly variables: Readonly<Record<string, string | undefined>>;
  /** Wins over the file's. */
  readonly projectName?: string | undefined;
  /** The file's directory, whose name is the project's where nothing else is. */
  readonly directory: string;
  readonly profiles: readonly string[];
}

/** Keys that could change who reaches whom, and are not served. All others that are not read here say nothing of networks. */
const unservedOfService = ["links", "external_links", "extends", "domainname", "net"];
const unservedOfEndpoint = ["link_local_ips"];
const unservedOfFile = ["include"];

/**
 * Reads a Compose file (compose-spec, 05-services and 06-networks), as far as networks go.
 * @throws {UsageFailure} naming the path in the file and the value
 */
export function readCompose(text: string, options: ReadOptions): ComposeProject {
  const document = parseDocument(text, { merge: true });
  const [problem] = document.errors;
  if (problem !== undefined) throw new UsageFailure(`Cannot use the Compose file: ${problem.message}`);
  const raw: unknown = document.toJS();
  const file = fields(interpolateAll(raw, options.variables), "the file");
  const name = options.projectName ?? text_(file["name"], "name") ?? defaultName(options.directory);
  if (!/^[a-z0-9][a-z0-9_-]*$/.test(name)) {
    throw new UsageFailure(
      `Cannot use project name ${JSON.stringify(name)}: expected lower case letters, digits, _ and -`,
    );
  }
  const declared = Object.entries(fields(file["networks"] ?? {}, "networks"));
  const networks = declared.map(([key, value]) =>
    readNetwork(key, fields(value ?? {}, `networks.${key}`), name),
  );
  const unsupported: string[] = unservedOfFile.filter((key) => file[key] !== undefined);
  const services = Object.entries(fields(file["services"] ?? {}, "services")).flatMap(([key, value]) => {
    const where = `services.${key}`;
    const service = fields(value ?? {}, where);
    const profiles = list(service["profiles"], `${where}.profiles`);
    if (profiles.length > 0 && !profiles.some((each) => options.profiles.includes(each))) return [];
    unsupported.push(...unserved(service, where));
    return [{ key, where, service }];
  });
  const usesDefault = services.some(
    ({ service }) => service["networks"] === undefined && service["network_mode"] === undefined,
  );
  const all =
    usesDefault && !networks.some(({ key }) => key === "default")
      ? [...networks, readNetwork("default", {}, name)]
      : networks;
  return {
    name,
    networks: all,
    services: services.map(({ key, where, service }) => readService(key, service, where, name, all)),
    unsupported,
  };
}

function defaultName(directory: string): string {
  return (
    basename(directory)
      .toLowerCase()
      .replace(/[^a-z0-9_-]/g, "")
      .replace(/^[_-]+/, "") || "default"
  );
}

function unserved(service: Fields, where: string): readonly string[] {
  const endpoints = isJsonObject(service["networks"]) ? Object.entries(service["networks"]) : [];
  return [
    ...unservedOfService.filter((key) => service[key] !== undefined).map((key) => `${where}.${key}`),
    ...endpoints.flatMap(([network, value]) =>
      isJsonObject(value)
        ? unservedOfEndpoint
            .filter((key) => value[key] !== undefined)
            .map((key) => `${where}.networks.${network}.${key}`)
        : [],
    ),
  ];
}

function readNetwork(key: string, raw: Fields, project: string): ComposeNetwork {
  const where = `networks.${key}`;
  const external = raw["external"];
  const isExternal = external === true || isJsonObject(external);
  const outerName = isJsonObject(external) ? text_(external["name"], `${where}.external.name`) : undefined;
  const own = text_(raw["name"], `${where}.name`) ?? outerName;
  const ipam = fields(raw["ipam"] ?? {}, `${where}.ipam`);
  const configs = ipam["config"] ?? [];
  if (!Array.isArray(configs)) throw wrong(`${where}.ipam.config`, configs, "a list");
  return {
    key,
    name: own ?? (isExternal ? key : `${project}_${key}`),
    isExternal,
    driver: text_(raw["driver"], `${where}.driver`) ?? "bridge",
    options: texts(raw["driver_opts"], `${where}.driver_opts`),
    labels: texts(raw["labels"], `${where}.labels`),
    internal: flag(raw["internal"], `${where}.internal`) ?? false,
    ipv4: flag(raw["enable_ipv4"], `${where}.enable_ipv4`) ?? true,
    ipv6: flag(raw["enable_ipv6"], `${where}.enable_ipv6`) ?? false,
    ipamDriver: text_(ipam["driver"], `${where}.ipam.driver`),
    subnets: (configs as readonly unknown[]).flatMap((each, index) =>
      readSubnet(fields(each ?? {}, `${where}.ipam.config[${index}]`), `${where}.ipam.config[${index}]`),
    ),
  };
}

function readSubnet(raw: Fields, where: string): readonly ComposeSubnet[] {
  const subnet = text_(raw["subnet"], `${where}.subnet`);
  if (subnet === undefined) return [];
  const gateway = text_(raw["gateway"], `${where}.gateway`);
  const ipRange = text_(raw["ip_range"], `${where}.ip_range`);
  return [
    {
      subnet,
      ...(gateway === undefined ? {} : { gateway }),
      ...(ipRange === undefined ? {} : { ipRange }),
      auxAddresses: Object.entries(texts(raw["aux_addresses"], `${where}.aux_addresses`)).map(
        ([name, address]) => `${name}=${address}`,
      ),
    },
  ];
}

function readService(
  key: string,
  raw: Fields,
  where: string,
  project: string,
  networks: readonly ComposeNetwork[],
): ComposeService {
  const own = text_(raw["container_name"], `${where}.container_name`);
  const deploy = fields(raw["deploy"] ?? {}, `${where}.deploy`);
  const replicas = count(raw["scale"] ?? deploy["replicas"] ?? 1, `${where}.scale`);
  if (own !== undefined && replicas > 1)
    throw wrong(`${where}.container_name`, own, `absent, with ${replicas} replicas`);
  return {
    key,
    sandboxes: Array.from({ length: replicas }, (_, index) => own ?? `${project}-${key}-${index + 1}`),
    networks: readEndpoints(key, raw, where, networks),
    hostname: text_(raw["hostname"], `${where}.hostname`),
    dns: list(raw["dns"], `${where}.dns`),
    dnsSearch: list(raw["dns_search"], `${where}.dns_search`),
    dnsOptions: list(raw["dns_opt"], `${where}.dns_opt`),
    extraHosts: pairs(raw["extra_hosts"], `${where}.extra_hosts`, ":"),
    sysctls: pairs(raw["sysctls"], `${where}.sysctls`, "=").filter((each) => each.startsWith("net")),
    ports: readPorts(raw["ports"], `${where}.ports`),
  };
}

function readEndpoints(
  service: string,
  raw: Fields,
  where: string,
  networks: readonly ComposeNetwork[],
): readonly ComposeEndpoint[] {
  const mode = text_(raw["network_mode"], `${where}.network_mode`);
  const plain = { aliases: [], ips: [], mac: undefined, gatewayPriority: 0, interfaceName: undefined };
  if (mode !== undefined) {
    if (mode === "none") return [];
    if (mode === "host" || mode === "bridge") return [{ ...plain, network: mode }];
    throw new UsageFailure(
      `Cannot use ${where}.network_mode ${JSON.stringify(mode)}: a sandbox has none, host, bridge, or networks of its own`,
    );
  }
  const given = raw["networks"] ?? ["default"];
  const entries: readonly (readonly [string, Fields])[] = Array.isArray(given)
    ? (given as readonly unknown[]).map((each) => [String(each), {}])
    : Object.entries(fields(given, `${where}.networks`)).map(([name, value]) => [
        name,
        fields(value ?? {}, `${where}.networks.${name}`),
      ]);
  const mac = text_(raw["mac_address"], `${where}.mac_address`);
  const endpoints = entries.map(([name, value], index) => {
    const network = networks.find((each) => each.key === name);
    const at = `${where}.networks.${name}`;
    if (network === undefined)
      throw new UsageFailure(`Cannot use ${at}: there is no such network in the file`);
    const options = texts(value["driver_opts"], `${at}.driver_opts`);
    const [unknown] = Object.keys(options).filter((option) => option !== endpointName);
    if (unknown !== undefined)
      throw new UsageFailure(`Cannot use ${at}.driver_opts: ${unknown} is not known; ${endpointName} is`);
    return {
      endpoint: {
        network: network.name,
        aliases: [...new Set([service, ...list(value["aliases"], `${at}.aliases`)])],
        ips: [value["ipv4_address"], value["ipv6_address"]].flatMap(
          (ip) => text_(ip, `${at}.ipv4_address`) ?? [],
        ),
        mac: text_(value["mac_address"], `${at}.mac_address`) ?? (index === 0 ? mac : undefined),
        gatewayPriority: integer(value["gw_priority"] ?? 0, `${at}.gw_priority`),
        interfaceName: text_(value["interface_name"], `${at}.interface_name`) ?? options[endpointName],
      },
      priority: integer(value["priority"] ?? 0, `${at}.priority`),
    };
  });
  // The higher comes first, and of several with the same the one that stands first.
  return endpoints.sort((a, b) => b.priority - a.priority).map(({ endpoint }) => endpoint);
}

const endpointName = "com.docker.network.endpoint.ifname";

/** Short ones are as `-p` takes them; long ones are written so. */
function readPorts(value: unknown, where: string): readonly string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw wrong(where, value, "a list");
  return (value as readonly unknown[]).map((each, index) => {
    if (typeof each === "string" || typeof each === "number") return String(each);
    const at = `${where}[${index}]`;
    const raw = fields(each, at);
    const target = text_(raw["target"], `${at}.target`);
    if (target === undefined) throw wrong(`${at}.target`, undefined, "a port");
    const host = text_(raw["host_ip"], `${at}.host_ip`);
    const published = text_(raw["published"], `${at}.published`) ?? "";
    const front =
      host === undefined
        ? published === ""
          ? ""
          : `${published}:`
        : `${host.includes(":") ? `[${host}]` : host}:${published}:`;
    return `${front}${target}/${text_(raw["protocol"], `${at}.protocol`) ?? "tcp"}`;
  });
}

function wrong(where: string, value: unknown, expected: string): UsageFailure {
  return new UsageFailure(`Cannot use ${where} ${JSON.stringify(value) ?? "(absent)"}: expected ${expected}`);
}

function fields(value: unknown, where: string): Fields {
  if (isJsonObject(value)) return value;
  throw wrong(where, value, "a mapping");
}

/** YAML makes numbers and truth values of what looks so. */
function text_(value: unknown, where: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean")
    return String(value);
  throw wrong(where, value, "a text");
}

/** A text alone counts as a list of one. */
function list(value: unknown, where: string): readonly string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) return [text_(value, where) ?? ""];
  return (value as readonly unknown[]).map((each, index) => text_(each, `${where}[${index}]`) ?? "");
}

/** A mapping, or a list of `key=value`. */
function texts(value: unknown, where: string): Readonly<Record<string, string>> {
  if (Array.isArray(value)) {
    return Object.fromEntries(
      list(value, where).map((each) => [each.split("=")[0] ?? "", each.slice(each.indexOf("=") + 1)]),
    );
  }
  const entries = Object.entries(fields(value ?? {}, where));
  return Object.fromEntries(entries.map(([key, each]) => [key, text_(each, `${where}.${key}`) ?? ""]));
}

/** A list as it is; a mapping as such a list. */
function pairs(value: unknown, where: string, separator: string): readonly string[] {
  if (value === undefined || value === null || Array.isArray(value)) return list(value, where);
  return Object.entries(texts(value, where)).map(([key, each]) => `${key}${separator}${each}`);
}

function flag(value: unknown, where: string): boolean | undefined {
  if (value === undefined || value === null || typeof value === "boolean") return value ?? undefined;
  if (value === "true" || value === "false") return value === "true";
  throw wrong(where, value, "true or false");
}

function integer(value: unknown, where: string): number {
  const number = typeof value === "string" && value !== "" ? Number(value) : value;
  if (typeof number === "number" && Number.isSafeInteger(number)) return number;
  throw wrong(where, value, "an integer");
}

function count(value: unknown, where: string): number {
  const number = integer(value, where);
  if (number >= 0 && number <= 1000) return number;
  throw wrong(where, value, "0 to 1000");
}
