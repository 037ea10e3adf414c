import {
  type AnyField,
  inetPort,
  inetPortRange,
  inetProtocol,
  ipv4,
  ipv4Prefix,
  ipv6,
  ipv6Prefix,
  mark,
} from "./field.ts";
import { forwardSets } from "./forward-sets.ts";
import { overlaySets } from "./overlay-sets.ts";
import type { Owner, OwnerTag } from "./owner.ts";
import type { SetDefinition } from "./set-definition.ts";
import { spoofSets } from "./spoof-sets.ts";

function table<const T extends Readonly<Record<string, SetDefinition>>>(rows: T): T {
  return rows;
}

/** Every set and map that the suite has. */
export const sets = table({
  /** `0 : VERSION`: which skeleton is loaded. Part of each transaction, so that another one makes it fail. */
  skeletonInet: { family: "inet", name: "skeleton", key: [mark], value: [mark], life: "skeleton" },
  skeletonBridge: { family: "bridge", name: "skeleton", key: [mark], value: [mark], life: "skeleton" },
  /** The same of an optional part; it is there where the part is. */
  skeletonGuards: {
    family: "inet",
    name: "skeleton_guards",
    key: [mark],
    value: [mark],
    life: "skeleton",
    part: "guards",
  },
  skeletonPolicies: {
    family: "inet",
    name: "skeleton_policies",
    key: [mark],
    value: [mark],
    life: "skeleton",
    part: "policies",
  },
  skeletonOverlay: {
    family: "inet",
    name: "skeleton_overlay",
    key: [mark],
    value: [mark],
    life: "skeleton",
    part: "overlay",
  },
  skeletonOtherPort: {
    family: "inet",
    name: "skeleton_other_port",
    key: [mark],
    value: [mark],
    life: "skeleton",
    part: "otherPort",
  },

  /** Container addresses that leave under an address of the host. */
  masquerade4: { family: "inet", name: "masquerade4", key: [ipv4], life: "attachment" },
  masquerade6: { family: "inet", name: "masquerade6", key: [ipv6], life: "attachment" },
  /** Pairs source . destination within one network, which are never masqueraded: SUBNET . SUBNET. */
  sameSubnet4: { family: "inet", name: "same_subnet4", key: [ipv4Prefix, ipv4Prefix], life: "network" },
  sameSubnet6: { family: "inet", name: "same_subnet6", key: [ipv6Prefix, ipv6Prefix], life: "network" },

  /** Published ports of every address of the host, and where they lead. */
  ports4: {
    family: "inet",
    name: "ports4",
    key: [inetProtocol, inetPort],
    value: [ipv4, inetPort],
    life: "attachment",
  },
  ports6: {
    family: "inet",
    name: "ports6",
    key: [inetProtocol, inetPort],
    value: [ipv6, inetPort],
    life: "attachment",
  },
  /** The same of one address of the host. */
  hostPorts4: {
    family: "inet",
    name: "host_ports4",
    key: [ipv4, inetProtocol, inetPort],
    value: [ipv4, inetPort],
    life: "attachment",
  },
  hostPorts6: {
    family: "inet",
    name: "host_ports6",
    key: [ipv6, inetProtocol, inetPort],
    value: [ipv6, inetPort],
    life: "attachment",
  },
  /** Ranges that keep their port numbers: the value is the container's address alone. */
  portRanges4: {
    family: "inet",
    name: "port_ranges4",
    key: [inetProtocol, inetPortRange],
    value: [ipv4],
    life: "attachment",
  },
  portRanges6: {
    family: "inet",
    name: "port_ranges6",
    key: [inetProtocol, inetPortRange],
    value: [ipv6],
    life: "attachment",
  },
  hostPortRanges4: {
    family: "inet",
    name: "host_port_ranges4",
    key: [ipv4, inetProtocol, inetPortRange],
    value: [ipv4],
    life: "attachment",
  },
  hostPortRanges6: {
    family: "inet",
    name: "host_port_ranges6",
    key: [ipv6, inetProtocol, inetPortRange],
    value: [ipv6],
    life: "attachment",
  },
  /**
   * Addresses of the host that ports were published on one by one: where to look for the rivals of a port that is
   * published on all of them. One may be left in it that is no longer used.
   */
  publishedOn4: { family: "inet", name: "published_on4", key: [ipv4], life: "host" },
  publishedOn6: { family: "inet", name: "published_on6", key: [ipv6], life: "host" },
  /** Containers whose published ports can be used from where the answer would miss the host: see skeleton-ports.ts. */
  hairpin4: { family: "inet", name: "hairpin4", key: [ipv4], life: "attachment" },
  hairpin6: { family: "inet", name: "hairpin6", key: [ipv6], life: "attachment" },
  /** Pairs source . destination for containers that are alone in their subnet: ADDRESS . ADDRESS. */
  hairpinSelf4: { family: "inet", name: "hairpin_self4", key: [ipv4, ipv4], life: "attachment" },
  hairpinSelf6: { family: "inet", name: "hairpin_self6", key: [ipv6, ipv6], life: "attachment" },
  /** Containers that see an address of the host as the source of everything that reaches a published port (`masqAll`). */
  hairpinAll4: { family: "inet", name: "hairpin_all4", key: [ipv4], life: "attachment" },
  hairpinAll6: { family: "inet", name: "hairpin_all6", key: [ipv6], life: "attachment" },

  ...forwardSets,
  ...overlaySets,
  ...spoofSets,
});

export type SetId = keyof typeof sets;
type IdsByLife<L extends SetDefinition["life"]> = {
  [I in SetId]: (typeof sets)[I]["life"] extends L ? I : never;
}[SetId];
export type OwnedSetId = IdsByLife<"attachment">;
export type SharedSetId = IdsByLife<"network">;
export type DeviceSetId = IdsByLife<"device">;
export type HostSetId = IdsByLife<"host">;

type Values<Fields> = {
  readonly [I in keyof Fields]: Fields[I] extends AnyField ? ReturnType<Fields[I]["decode"]> : never;
};
export type KeyOf<I extends SetId> = Values<(typeof sets)[I]["key"]>;
type ValuePart<I extends SetId> = (typeof sets)[I] extends { readonly value: infer V }
  ? { readonly value: Values<V> }
  : unknown;

/** Names one element: the set and the key. */
export type ElementRef<I extends SetId = SetId> = {
  [K in I]: { readonly set: K; readonly key: KeyOf<K> };
}[I];

/** An element with what a map holds for its key. */
export type Element<I extends SetId = SetId> = {
  [K in I]: { readonly set: K; readonly key: KeyOf<K> } & ValuePart<K>;
}[I];

/** To add: an element of one attachment, or a shared one, which needs no owner. */
export type Operation =
  | (Element<OwnedSetId> & { readonly owner: OwnerTag })
  | (Element<SharedSetId | DeviceSetId | HostSetId> & { readonly owner?: never });

/** An element that the kernel has. */
export interface PresentElement<I extends SetId = SetId> {
  readonly key: KeyOf<I>;
  /** Of a map: one value for each field. */
  readonly value?: readonly unknown[];
  /** An owner tag, or whatever another hand has written; "" without comment. */
  readonly comment: string;
  /** Absent if the comment is no owner tag. */
  readonly owner?: Owner;
}

export function definitionOf(id: SetId): SetDefinition {
  return sets[id];
}

/** True if the set's keys cover ranges (`flags interval`). */
export function isInterval(definition: SetDefinition): boolean {
  return definition.key.some((field) => field.interval);
}

/** `tcp . 8080`, as nft writes the fields of a key or of a value. */
export function formatFields(fields: readonly AnyField[], values: readonly unknown[]): string {
  return fields.map((field, index) => field.format(values[index] as never)).join(" . ");
}

/** The element in nft's words, for messages: `masquerade4 { 10.1.0.2 }`, `ports { tcp . 80 : 10.1.0.2 . 80 }`. */
export function formatElement(element: {
  readonly set: SetId;
  readonly key: readonly unknown[];
  readonly value?: readonly unknown[] | undefined;
}): string {
  const { name, key, value } = definitionOf(element.set);
  const data = value && element.value ? ` : ${formatFields(value, element.value)}` : "";
  return `${name} { ${formatFields(key, element.key)}${data} }`;
}

/** The declaration in nft's language: `set same_subnet4 { type ipv4_addr . ipv4_addr; flags interval; }`. */
export function declareSet(definition: SetDefinition): string {
  const isNamed = definition.key.every((field) => field.type !== "integer");
  const type = isNamed
    ? `type ${definition.key.map((field) => field.type).join(" . ")}`
    : `typeof ${definition.key.map((field) => field.expression ?? field.type).join(" . ")}`;
  const data = definition.value ? ` : ${definition.value.map((field) => field.type).join(" . ")}` : "";
  const flags = isInterval(definition) ? " flags interval;" : "";
  return `${definition.value ? "map" : "set"} ${definition.name} { ${type}${data};${flags} }`;
}
