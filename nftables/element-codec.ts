import { decodeComment, encodeComment } from "#netlink/netfilter/comment.ts";
import { concatenate, splitConcatenation } from "#netlink/netfilter/concatenation.ts";
import { NetfilterFamily } from "#netlink/netfilter/header.ts";
import type { SetElement, SetName } from "#netlink/netfilter/set-element.ts";
import { definitionOf, isInterval, type PresentElement, type SetId } from "./element.ts";
import type { AnyField, Bounds } from "./field.ts";
import { parseOwnerTag } from "./owner.ts";
import { type SetDefinition, tableName } from "./set-definition.ts";

/** Where the kernel has the set. */
export function setName(definition: SetDefinition): SetName {
  return { family: NetfilterFamily[definition.family], table: tableName, set: definition.name };
}

function encodeFields(fields: readonly AnyField[], values: readonly unknown[]): Bounds {
  const bounds = fields.map((field, index) => field.encode(values[index] as never));
  return {
    first: concatenate(bounds.map((bound) => bound.first)),
    last: concatenate(bounds.map((bound) => bound.last)),
  };
}

function decodeFields(fields: readonly AnyField[], first: Uint8Array, last: Uint8Array): readonly unknown[] {
  const lengths = fields.map((field) => field.byteLength);
  const firsts = splitConcatenation(first, lengths);
  const lasts = splitConcatenation(last, lengths);
  return fields.map((field, index) =>
    field.decode({ first: firsts[index] ?? new Uint8Array(0), last: lasts[index] ?? new Uint8Array(0) }),
  );
}

/** What names the element to the kernel. */
export function encodeKey(element: { readonly set: SetId; readonly key: readonly unknown[] }): SetElement {
  const definition = definitionOf(element.set);
  const { first, last } = encodeFields(definition.key, element.key);
  return { key: { value: first }, ...(isInterval(definition) ? { keyEnd: { value: last } } : {}) };
}

/** What names the element within its set, as one text: its bytes. */
export function keyText(element: { readonly set: SetId; readonly key: readonly unknown[] }): string {
  return textOfKey(encodeKey(element));
}

/** The same of one that the kernel sent. */
export function presentKeyText(id: SetId, { key, keyEnd }: SetElement): string {
  // A range of one may come without its end.
  const end = isInterval(definitionOf(id)) ? { keyEnd: keyEnd ?? key } : {};
  return textOfKey({ key, ...end });
}

function textOfKey({ key, keyEnd }: Pick<SetElement, "key" | "keyEnd">): string {
  const first = textOfBytes(key?.value);
  return keyEnd ? `${first}${textOfBytes(keyEnd.value)}` : first;
}

function textOfBytes(bytes: Uint8Array | undefined): string {
  return bytes ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1") : "";
}

/** The comment of one that the kernel sent; "" where it has none. @throws {DecodeError} */
export function presentComment({ userdata }: SetElement): string {
  return userdata ? decodeComment(userdata) : "";
}

/** The whole element, with its value if the set is a map, and its owner as comment. */
export function encodeElement(element: {
  readonly set: SetId;
  readonly key: readonly unknown[];
  readonly value?: readonly unknown[];
  readonly owner?: string | undefined;
}): SetElement {
  const { value } = definitionOf(element.set);
  return {
    ...encodeKey(element),
    ...(value ? { data: { value: encodeFields(value, element.value ?? []).first } } : {}),
    ...(element.owner === undefined ? {} : { userdata: encodeComment(element.owner) }),
  };
}

/**
 * An element that the kernel sent.
 * @throws {DecodeError | RangeError} one that another hand made and that is none of this set's values
 */
export function decodeElement(id: SetId, element: SetElement): PresentElement {
  const definition = definitionOf(id);
  const first = element.key?.value ?? new Uint8Array(0);
  const comment = element.userdata ? decodeComment(element.userdata) : "";
  const data = element.data?.value;
  const owner = parseOwnerTag(comment);
  return {
    key: decodeFields(definition.key, first, element.keyEnd?.value ?? first) as PresentElement["key"],
    ...(definition.value && data ? { value: decodeFields(definition.value, data, data) } : {}),
    comment,
    ...(owner ? { owner } : {}),
  };
}
