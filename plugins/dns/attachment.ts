import { field, isJsonObject } from "#cni/json.ts";
import type { AddRequest } from "#cni/plugin.ts";
import type { CniDns, CniResult } from "#cni/result.ts";
import { type NameEntry, normalizeHostName } from "#dns-resolver/registry.ts";
import type { AttachmentKey } from "#journal/record.ts";
import { formatCidr } from "#net/cidr.ts";
import { type DnsConfig, resultDns } from "./config.ts";

export const resolverAddress = "127.0.0.11";

/** Everything that one ADD makes, but for the resolver's port in the container. It follows from the request alone. */
export interface Attachment {
  readonly key: AttachmentKey;
  readonly entry: Omit<NameEntry, "port" | "createdAtMs">;
  readonly dns: CniDns;
}

/** So long are the ids that people type. */
const shortIdLength = 12;

export function describeAttachment(input: {
  readonly config: DnsConfig;
  readonly key: AttachmentKey;
  readonly request: Pick<AddRequest, "args" | "netns" | "config">;
  readonly prevResult: CniResult;
}): Attachment {
  const { config, key, request, prevResult } = input;
  const { path, dev, ino } = request.netns;
  // Servers that an IPAM plugin hands out are for the container to ask, so they are asked from there.
  const servers = config.servers.length > 0 ? config.servers : (prevResult.dns.nameservers ?? []);
  return {
    key,
    entry: {
      ...key,
      netns: { path, dev, ino },
      names: namesOf(config, key.containerId, request),
      addresses: ownAddresses(prevResult, key.ifName),
      isInternal: config.isInternal,
      ...(config.domain === undefined ? {} : { domain: config.domain }),
      servers: servers.filter((server) => server !== resolverAddress),
    },
    dns: resultDns(config, prevResult.dns, resolverAddress),
  };
}

/** All addresses of the interface. One that says no interface may be its own; one that is another's is not. */
function ownAddresses({ ips, interfaces }: CniResult, ifName: string): readonly string[] {
  return ips.flatMap(({ address, interface: index }) => {
    const of = index === undefined ? undefined : interfaces[index];
    return !of || (of.name === ifName && of.sandbox) ? [formatCidr(address)] : [];
  });
}

/** Labels (`args.cni.labels`) that name a container. Values may be several, with commas between. */
const nameLabels = ["io.netctl.name"];
const aliasLabels = ["io.netctl.aliases", "io.netctl.hostname", "com.docker.compose.service"];

/**
 * What a container answers to, the first for who asks for the name of its address: its name as Kubernetes, podman
 * (K8S_POD_NAME of CNI_ARGS) or a label says it, aliases, the hostname, the short id. What no host can be called is
 * passed over: it is given to others' plugins too, which may make use of it.
 */
function namesOf(
  config: DnsConfig,
  containerId: string,
  { args, config: network }: Pick<AddRequest, "args" | "config">,
): readonly string[] {
  const labels = labelsOf(network.cniArgs["labels"]);
  const labelled = (keys: readonly string[]) =>
    labels.filter(([key]) => keys.includes(key)).flatMap(([, value]) => value.split(","));
  const arg = (key: string) => args.findLast(([each]) => each === key)?.[1];
  const pod = arg("K8S_POD_NAME");
  const namespace = arg("K8S_POD_NAMESPACE");
  const names = [
    ...labelled(nameLabels),
    ...(pod === undefined ? [] : [pod]),
    ...config.aliases,
    ...labelled(aliasLabels),
    // Podman says the pod's name twice, for want of namespaces.
    ...(pod !== undefined && namespace && namespace !== pod ? [`${pod}.${namespace}`] : []),
    containerId.slice(0, shortIdLength),
  ];
  return [...new Set(names.flatMap((name) => normalizeHostName(name.trim()) ?? []))];
}

/** `[{ "key": "app", "value": "web" }]`, or an object; anything else names nothing. */
function labelsOf(labels: unknown): readonly (readonly [key: string, value: string])[] {
  if (isJsonObject(labels)) {
    return Object.entries(labels).flatMap(([key, value]) =>
      typeof value === "string" ? [[key, value] as const] : [],
    );
  }
  if (!Array.isArray(labels)) return [];
  return labels.filter(isJsonObject).flatMap((label) => {
    const [key, value] = [field(label, "key"), field(label, "value")];
    return typeof key === "string" && typeof value === "string" ? [[key, value] as const] : [];
  });
}
