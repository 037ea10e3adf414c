import { UsageFailure } from "#netctl/failure.ts";
import { builtinNames } from "./definition.ts";
import type { Network } from "./listing.ts";

/** What a filter is asked about. */
export interface FilteredNetwork {
  readonly network: Network;
  /** How many are attached. */
  readonly attachments: number;
}

type Test = (each: FilteredNetwork) => boolean;

const labelsOf = ({ network }: FilteredNetwork) => network.notes?.labels ?? {};

/** `tier` or `tier=front`. */
function hasLabel(value: string): Test {
  const equals = value.indexOf("=");
  const key = equals < 0 ? value : value.slice(0, equals);
  return (each) => {
    const labels = labelsOf(each);
    return Object.hasOwn(labels, key) && (equals < 0 || labels[key] === value.slice(equals + 1));
  };
}

/** As Docker: exactly, or as a regular expression anywhere in it. */
function matches(value: string, pick: (network: Network) => string): Test {
  let pattern: RegExp | undefined;
  try {
    pattern = new RegExp(value);
  } catch {
    // Then only exactly.
  }
  return ({ network }) => pick(network) === value || pattern?.test(pick(network)) === true;
}

function parseFlag(value: string, key: string): boolean {
  if (/^(1|true)$/i.test(value)) return true;
  if (/^(0|false)$/i.test(value)) return false;
  throw new UsageFailure(`invalid filter '${key}=${value}': expected true or false`);
}

/** Filters of `network ls`: those of one key are alternatives, but labels, which all have to be there. */
const lsFilters: Readonly<Record<string, (value: string) => Test>> = {
  dangling: (value) => {
    const wanted = parseFlag(value, "dangling");
    return ({ network, attachments }) =>
      wanted === (attachments === 0 && !builtinNames.includes(network.name));
  },
  driver:
    (value) =>
    ({ network }) =>
      network.driver === value,
  id: (value) => matches(value, ({ id }) => id),
  label: hasLabel,
  name: (value) => matches(value, ({ name }) => name),
  scope:
    (value) =>
    ({ network }) =>
      scopeOf(network) === value,
  type: (value) => {
    if (value !== "builtin" && value !== "custom") {
      throw new UsageFailure(`invalid filter 'type=${value}': expected builtin or custom`);
    }
    return ({ network }) => builtinNames.includes(network.name) === (value === "builtin");
  },
};

/** @throws {UsageFailure} */
export function parseLsFilters(texts: readonly string[]): Test {
  const pairs = texts.map((text) => splitFilter(text, Object.keys(lsFilters)));
  const alternatives = new Map<string, Test[]>();
  const required: Test[] = [];
  for (const [key, value] of pairs) {
    const test = lsFilters[key]?.(value);
    if (test === undefined) continue;
    if (key === "label") required.push(test);
    else alternatives.set(key, [...(alternatives.get(key) ?? []), test]);
  }
  return (each) =>
    required.every((test) => test(each)) &&
    [...alternatives.values()].every((tests) => tests.some((test) => test(each)));
}

/**
 * Filters of `network prune`.
 * @param nowMs what `until=24h` is counted from
 * @throws {UsageFailure}
 */
export function parsePruneFilters(
  texts: readonly string[],
  nowMs: number,
  readDuration: (text: string) => number,
): Test {
  const tests = texts.map((text): Test => {
    const [key, value] = splitFilter(text, ["label", "label!", "until"]);
    if (key === "label") return hasLabel(value);
    if (key === "label!") {
      const test = hasLabel(value);
      return (each) => !test(each);
    }
    const untilMs = /^\d{4}-/.test(value) ? Date.parse(value) : nowMs - readDuration(value);
    if (Number.isNaN(untilMs)) throw new UsageFailure(`invalid filter 'until=${value}': expected a time`);
    return ({ network }) => Date.parse(network.notes?.createdAt ?? "") < untilMs;
  });
  return (each) => tests.every((test) => test(each));
}

function splitFilter(text: string, known: readonly string[]): readonly [key: string, value: string] {
  const [, key = "", value] = /^([a-z]+!?)=(.*)$/s.exec(text) ?? [];
  if (value === undefined) throw new UsageFailure(`invalid filter '${text}': expected KEY=VALUE`);
  if (known.includes(key)) return [key, value];
  throw new UsageFailure(`invalid filter '${key}': known are ${known.join(", ")}`);
}

/** Docker's word for what is on every host of the cluster. */
export function scopeOf({ driver }: Network): "local" | "swarm" {
  return driver === "overlay-vxlan" ? "swarm" : "local";
}
