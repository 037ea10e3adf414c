import * as v from "valibot";
import { parseCidr } from "#net/cidr.ts";
import { parseIfName } from "#net/ifname.ts";
import { parseIp } from "#net/ip.ts";
import { parseMac } from "#net/mac.ts";

/**
 * Building blocks for `goObject`: each turns one JSON value into a value of `net/`, or says what is wrong with it.
 */

/** Text that `parse` turns into a value; its RangeError becomes the problem's text. */
export function parsedText<Value>(parse: (text: string) => Value) {
  return v.pipe(
    v.string(),
    v.rawTransform<string, Value>(({ dataset, addIssue, NEVER }) => {
      try {
        return parse(dataset.value);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        addIssue({ message: error.message });
        return NEVER;
      }
    }),
  );
}

/** `"10.0.0.1"` or `"fd00::1"` */
export const ip = parsedText(parseIp);

/** `"10.0.0.1/24"`; host bits may be set. */
export const cidr = parsedText(parseCidr);

export const mac = parsedText(parseMac);

export const ifName = parsedText(parseIfName);

/** A JSON number without fraction, `min` to `max`. The text "1500" is no number, as in Go. */
export function int(limits: { readonly min?: number; readonly max?: number } = {}) {
  const { min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } = limits;
  const range =
    limits.min === undefined && limits.max === undefined
      ? ""
      : limits.max === undefined
        ? ` of at least ${min}`
        : limits.min === undefined
          ? ` of at most ${max}`
          : ` of ${min} to ${max}`;
  return v.custom<number>(
    (input) => Number.isSafeInteger(input) && Number(input) >= min && Number(input) <= max,
    `must be an integer${range}`,
  );
}

/** One of a few words, matched exactly. */
export function oneOf<const Words extends readonly string[]>(words: Words) {
  const list = words.map((word) => JSON.stringify(word)).join(", ");
  return v.custom<Words[number]>(
    (input) => typeof input === "string" && words.includes(input),
    `must be one of ${list}`,
  );
}

/** `["a", "b"]` */
export const textList = v.array(v.string());

const emptyText = v.pipe(
  v.literal(""),
  v.transform(() => undefined),
);

/** For fields in which `""` means the same as absence, as it does for Go's net.IP and most strings. */
export function emptyAsAbsent<const Schema extends v.GenericSchema>(schema: Schema) {
  return v.optional(v.lazy((input): Schema | typeof emptyText => (input === "" ? emptyText : schema)));
}
