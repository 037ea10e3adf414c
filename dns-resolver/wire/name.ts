import { latin1Buffer } from "./latin1.ts";
import { maxNameBytes } from "./numbers.ts";

/**
 * Names as text: labels in lower case with dots between, none at the end, "" for the root. A dot or backslash within a
 * label has a backslash before it; every other byte is the character of that number.
 */

const dot = 0x2e;
const backslash = 0x5c;

/** Twice as long as a name, for a backslash before each byte. Of one thread, used within one call. */
const text = latin1Buffer(2 * maxNameBytes + 2);

/**
 * Reads a name that is written out, as that of a question is.
 * @returns where it ends; -1 if it is malformed, is longer than 255 bytes or has a compression pointer
 */
export function nameEnd(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  for (;;) {
    if (at >= end) return -1;
    const length = bytes[at] as number;
    if (length === 0) return at + 1 - start > maxNameBytes ? -1 : at + 1;
    if (length > 63) return -1;
    at += length + 1;
  }
}

/** The text of a name for which `nameEnd()` has found an end. */
export function nameText(bytes: Uint8Array, start: number): string {
  let at = start;
  let put = 0;
  for (;;) {
    const length = bytes[at++] as number;
    if (length === 0) return text.latin1Slice(0, put);
    if (put > 0) text[put++] = dot;
    for (const stop = at + length; at < stop; at++) {
      const byte = bytes[at] as number;
      if (byte === dot || byte === backslash) text[put++] = backslash;
      text[put++] = byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte;
    }
  }
}

/**
 * Where the name at `start` ends in a message, pointers not followed: they may lead anywhere, in circles too.
 * @returns -1 if it is malformed
 */
export function skipName(bytes: Uint8Array, start: number, end: number): number {
  let at = start;
  for (;;) {
    if (at >= end) return -1;
    const length = bytes[at] as number;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return at + 2 <= end ? at + 2 : -1;
    if (length > 63) return -1;
    at += length + 1;
  }
}

/** Wire form of a name in text; undefined for what is none. */
export function encodeName(name: string): Uint8Array | undefined {
  const bytes: number[] = [];
  let label: number[] = [];
  const close = () => {
    if (label.length === 0 || label.length > 63) return false;
    bytes.push(label.length, ...label);
    label = [];
    return true;
  };
  const plain = name.endsWith(".") && !name.endsWith("\\.") ? name.slice(0, -1) : name;
  for (let at = 0; at < plain.length; at++) {
    let code = plain.charCodeAt(at);
    if (code > 0xff) return undefined;
    if (code === dot) {
      if (!close()) return undefined;
      continue;
    }
    if (code === backslash) {
      at += 1;
      if (at >= plain.length) return undefined;
      code = plain.charCodeAt(at);
    }
    label.push(code);
  }
  if (plain !== "" && !close()) return undefined;
  bytes.push(0);
  return bytes.length > maxNameBytes ? undefined : Uint8Array.from(bytes);
}
