import { UsageFailure } from "#netctl/failure.ts";
import { nearestWord } from "#runtime/nearest-word.ts";
import { networkId, sandboxContainerId } from "#runtime/network-id.ts";
import type { LogLine } from "./line.ts";

export type LineTest = (line: LogLine) => boolean;

const shortestId = 4;

/** A network by its name, or by its id or the beginning of it. */
export function isNetwork(text: string): LineTest {
  return ({ network }) =>
    network !== "" && (network === text || (isIdLike(text) && networkId(network).startsWith(text)));
}

/** A sandbox by its name, a container by its id or the beginning of it, a pod as NAMESPACE/NAME. */
export function isContainer(text: string): LineTest {
  const id = sandboxContainerId(text);
  return ({ containerId, name }) =>
    (containerId !== "" &&
      (containerId === text || containerId === id || (isIdLike(text) && containerId.startsWith(text)))) ||
    (name !== "" && name === text);
}

function isIdLike(text: string): boolean {
  return text.length >= shortestId && /^[0-9a-f]+$/.test(text);
}

/**
 * Understands `--filter KEY=VALUE`, several: of one key any value does, and every key has to fit, as Docker has it.
 * @param known what each key tests for a value
 * @throws {UsageFailure}
 */
export function parseLineFilters(
  texts: readonly string[],
  known: Readonly<Record<string, (value: string) => LineTest>>,
): LineTest {
  const byKey = new Map<string, LineTest[]>();
  for (const text of texts) {
    const [, key = "", value = ""] = /^([^=]*)=(.*)$/s.exec(text) ?? [];
    if (!text.includes("=")) throw new UsageFailure(`invalid filter '${text}': expected KEY=VALUE`);
    const make = Object.hasOwn(known, key) ? known[key] : undefined;
    if (make === undefined) {
      const near = nearestWord(key, Object.keys(known));
      const hint = near === undefined ? "" : `; did you mean ${near}?`;
      throw new UsageFailure(`invalid filter '${key}': known are ${Object.keys(known).join(", ")}${hint}`);
    }
    byKey.set(key, [...(byKey.get(key) ?? []), make(value)]);
  }
  const groups = [...byKey.values()];
  return (line) => groups.every((tests) => tests.some((test) => test(line)));
}
