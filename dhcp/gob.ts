/**
 * As much of Go's encoding/gob as a call of net/rpc needs: structures of texts and bytes, each with its type in front.
 * A stream is messages with their length before them; one is a type's definition, with the type's number negated, or a
 * value, with the number. Fields are told by how much further they are than the one before; a field that is zero is left
 * out, and 0 ends a structure.
 * @see https://pkg.go.dev/encoding/gob, "Encoding Details"
 */

/** A structure, its fields in order. */
export interface GobStruct {
  readonly name: string;
  readonly fields: readonly (readonly [name: string, value: string | Uint8Array])[];
}

/** Numbers of the types that need no definition. */
const uintType = 3;
const bytesType = 5;
const stringType = 6;
/** The first two that are free. */
const requestType = 65;
const argumentType = 66;
/** Of the structure that defines a type: which field says that it is a structure. */
const structField = 3;

/** net/rpc: a Request with the method's name, then its argument. */
export function encodeCall(method: string, argument: GobStruct): Uint8Array {
  const request = definition(requestType, "Request", [
    ["ServiceMethod", stringType],
    ["Seq", uintType],
  ]);
  const types = argument.fields.map(
    ([name, value]) => [name, typeof value === "string" ? stringType : bytesType] as const,
  );
  return Buffer.concat([
    message(request),
    message([...int(requestType), ...fieldsOf([method]), 0]),
    message(definition(argumentType, argument.name, types)),
    message([...int(argumentType), ...fieldsOf(argument.fields.map(([, value]) => value)), 0]),
  ]);
}

/**
 * net/rpc: the error of the first Response (ServiceMethod, Seq, Error); "" for success.
 * @returns undefined while it has not come whole
 * @throws {RangeError} for what is no Response
 */
export function decodeError(bytes: Uint8Array): string | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < buffer.length; ) {
    const length = readUint(buffer, at);
    if (!length || length.next + length.value > buffer.length) return undefined;
    const end = length.next + length.value;
    const type = readUint(buffer, length.next);
    if (!type) throw new RangeError("a message of gob without a type");
    // A definition has a negative number, which is odd here.
    if (type.value % 2 === 0) return errorOf(buffer.subarray(type.next, end));
    at = end;
  }
  return undefined;
}

const responseFields = { method: 1, sequence: 2, error: 3 };

function errorOf(value: Buffer): string {
  let error = "";
  let field = 0;
  for (let at = 0; at < value.length; ) {
    const delta = readUint(value, at);
    if (!delta) break;
    if (delta.value === 0) return error;
    field += delta.value;
    const number = readUint(value, delta.next);
    if (!number || field > responseFields.error) break;
    at = number.next;
    if (field === responseFields.sequence) continue;
    if (field === responseFields.error) error = value.toString("utf8", at, at + number.value);
    at += number.value;
  }
  throw new RangeError("a message of gob that is no answer");
}

function definition(
  type: number,
  name: string,
  fields: readonly (readonly [name: string, type: number])[],
): readonly number[] {
  const common = [1, ...text(name), 1, ...int(type), 0];
  const each = fields.flatMap(([fieldName, fieldType]) => [1, ...text(fieldName), 1, ...int(fieldType), 0]);
  return [...int(-type), structField, 1, ...common, 1, ...uint(fields.length), ...each, 0, 0];
}

function fieldsOf(values: readonly (string | Uint8Array)[]): readonly number[] {
  let skipped = 1;
  return values.flatMap((value) => {
    if (value.length === 0) {
      skipped++;
      return [];
    }
    const field = [...uint(skipped), ...text(value)];
    skipped = 1;
    return field;
  });
}

function message(content: readonly number[]): Uint8Array {
  return Buffer.from([...uint(content.length), ...content]);
}

function text(value: string | Uint8Array): readonly number[] {
  const bytes = Buffer.from(value);
  return [...uint(bytes.length), ...bytes];
}

/** Below 128 a byte; else the number of bytes, negated, and they, the highest first. */
function uint(value: number): readonly number[] {
  if (value < 128) return [value];
  const bytes: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return [256 - bytes.length, ...bytes];
}

/** The sign is the lowest bit. */
function int(value: number): readonly number[] {
  return uint(value < 0 ? (-value - 1) * 2 + 1 : value * 2);
}

function readUint(buffer: Buffer, at: number): { readonly value: number; readonly next: number } | undefined {
  const first = buffer[at];
  if (first === undefined) return undefined;
  if (first < 128) return { value: first, next: at + 1 };
  const length = 256 - first;
  if (length > 6 || at + 1 + length > buffer.length) return undefined;
  return { value: buffer.readUIntBE(at + 1, length), next: at + 1 + length };
}
