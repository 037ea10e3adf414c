import * as v from "valibot";
import type { CniArgs } from "#cni/cni-args.ts";
import { CniError, ErrorCode } from "#cni/error.ts";
import { goObject } from "#cni/schema.ts";
import { int } from "#cni/schema-values.ts";

const option = v.union([v.string(), int()]);

/** The two fields by which a configuration says what is asked for and what is told, for each protocol. */
export const optionFields = {
  provide: v.optional(
    v.array(goObject({ option, value: v.optional(v.string(), ""), fromArg: v.optional(v.string(), "") })),
    [],
  ),
  request: v.optional(
    v.array(goObject({ option: v.optional(option), skipDefault: v.optional(v.boolean(), false) })),
    [],
  ),
};

const fields = v.object(optionFields);
export type OptionFields = v.InferOutput<typeof fields>;

/** The options of one protocol. */
export interface OptionKind {
  /** As it reads in front of "provide[0]": "" or "ipv6." */
  readonly path: string;
  readonly names: Readonly<Record<string, number>>;
  readonly highest: number;
  /** Those that the protocol itself is made of. */
  readonly own: readonly number[];
  /** What the result is made of. */
  readonly usual: readonly number[];
  /** The bytes of a value, or what is wrong with it, as it reads after its path and value. */
  encode(code: number, text: string): Uint8Array | string;
}

export interface ReadOptions {
  readonly requested: readonly number[];
  readonly provided: Map<number, Uint8Array>;
}

/** @throws {CniError} 7 with the field and its value */
export function readOptions(raw: OptionFields, kind: OptionKind, args: CniArgs): ReadOptions {
  const provided = new Map<number, Uint8Array>();
  for (const [index, { option, value, fromArg }] of raw.provide.entries()) {
    const where = `"${kind.path}provide[${index}]"`;
    const code = optionNumber(option, where, kind);
    const text = value || args.find(([key]) => key === fromArg)?.[1] || "";
    if (text === "") continue;
    const bytes = kind.encode(code, text);
    if (typeof bytes === "string") throw invalid(`${where}.value${bytes}`);
    provided.set(code, bytes);
  }
  const skipsUsual = raw.request.some(({ skipDefault }) => skipDefault);
  const asked = raw.request.flatMap(({ option }, index) =>
    option === undefined || option === ""
      ? []
      : [optionNumber(option, `"${kind.path}request[${index}]"`, kind)],
  );
  return { requested: [...new Set([...(skipsUsual ? [] : kind.usual), ...asked])], provided };
}

export function invalid(problem: string): CniError {
  return new CniError(ErrorCode.InvalidNetworkConfig, `Cannot use dhcp configuration: ${problem}`);
}

function optionNumber(option: string | number, where: string, { names, highest, own }: OptionKind): number {
  const text = String(option);
  const code = Object.hasOwn(names, text) ? names[text] : /^\d{1,5}$/.test(text) ? Number(text) : undefined;
  if (code === undefined || code < 1 || code > highest) {
    const list = Object.keys(names).join(", ");
    throw invalid(`${where}.option ${JSON.stringify(option)}: must be 1 to ${highest} or one of ${list}`);
  }
  if (own.includes(code)) {
    throw invalid(`${where}.option ${JSON.stringify(option)}: the client itself sets it`);
  }
  return code;
}
