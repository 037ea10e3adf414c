import { copyBytes } from "#dns-resolver/wire/copy.ts";
import { ednsUdpBytes, Flag, headerBytes, RecordType } from "#dns-resolver/wire/numbers.ts";
import type { Query } from "#dns-resolver/wire/query.ts";
import { randomByte } from "./dice.ts";

/** What is asked of servers on behalf of all clients that ask the same. */
export interface Question {
  /** Name, type and class, in lower case. */
  readonly bytes: Uint8Array;
  readonly wantsDnssec: boolean;
  readonly checkingDisabled: boolean;
  readonly recursionDesired: boolean;
}

/** What tells questions apart. */
export function questionKey(query: Query): string {
  const flags = query.flags & (Flag.CheckingDisabled | Flag.RecursionDesired);
  return `${query.type} ${flags} ${query.wantsDnssec ? 1 : 0} ${query.name}`;
}

export function questionOf(query: Query): Question {
  const bytes = copyBytes(query.question);
  for (let at = 0; at < bytes.length - 4; at++) {
    const byte = bytes[at] as number;
    // Lengths of labels are below 64, where there are no letters.
    if (byte >= 0x41 && byte <= 0x5a) bytes[at] = byte + 0x20;
  }
  return {
    bytes,
    wantsDnssec: query.wantsDnssec,
    checkingDisabled: (query.flags & Flag.CheckingDisabled) !== 0,
    recursionDesired: (query.flags & Flag.RecursionDesired) !== 0,
  };
}

/**
 * The message to a server, with id 0. Letters get upper or lower case at random: a server repeats it, and whoever wants
 * to forge its answer has to guess it ("0x20", draft-vixie-dnsext-dns0x20).
 */
export function encodeQuestion(
  question: Question,
  options: { readonly withEdns: boolean; readonly withCase: boolean },
): Uint8Array {
  const { bytes, wantsDnssec, checkingDisabled, recursionDesired } = question;
  const message = new Uint8Array(headerBytes + bytes.length + (options.withEdns ? 11 : 0));
  const flags =
    (recursionDesired ? Flag.RecursionDesired : 0) | (checkingDisabled ? Flag.CheckingDisabled : 0);
  message[2] = flags >> 8;
  message[3] = flags & 0xff;
  message[5] = 1;
  message.set(bytes, headerBytes);
  let dice = 1;
  for (let index = 0; options.withCase && index < bytes.length - 4; index++) {
    const byte = bytes[index] as number;
    const isLetter = byte >= 0x61 && byte <= 0x7a;
    if (!isLetter) continue;
    // Eight at a time; the one above them tells when they are used up.
    if (dice === 1) dice = 0x100 | randomByte();
    if (dice & 1) message[headerBytes + index] = byte - 0x20;
    dice >>= 1;
  }
  if (options.withEdns) {
    const at = headerBytes + bytes.length;
    message[11] = 1;
    message[at + 2] = RecordType.OPT;
    message[at + 3] = ednsUdpBytes >> 8;
    message[at + 4] = ednsUdpBytes & 0xff;
    message[at + 7] = wantsDnssec ? 0x80 : 0;
  }
  return message;
}

/** Whether an answer repeats our question: in the very same letters, in others, or not at all. */
export function compareQuestion(
  sent: Uint8Array,
  questionBytes: number,
  answer: Uint8Array,
): "same" | "case" | "other" {
  const end = headerBytes + questionBytes;
  if (answer.length < end || answer[4] !== 0 || answer[5] !== 1) return "other";
  let isSame = true;
  for (let at = headerBytes; at < end; at++) {
    const ours = sent[at] as number;
    const theirs = answer[at] as number;
    if (ours === theirs) continue;
    const isLetter = (ours | 0x20) >= 0x61 && (ours | 0x20) <= 0x7a && at < end - 4;
    if (!isLetter || (ours ^ theirs) !== 0x20) return "other";
    isSame = false;
  }
  return isSame ? "same" : "case";
}
