import { type DhcpOption, findOption, Option } from "./message.ts";

/** RFC 8415 section 21.13 */
export const StatusCode = {
  Success: 0,
  UnspecFail: 1,
  NoAddrsAvail: 2,
  NoBinding: 3,
  NotOnLink: 4,
  UseMulticast: 5,
} as const;

export interface Status {
  readonly code: number;
  /** For people. */
  readonly text: string;
}

/** What a server says of a message, an association or an address; success where it says nothing. */
export function readStatus(options: readonly DhcpOption[]): Status {
  const value = findOption(options, Option.StatusCode);
  if (value === undefined || value.length < 2) return { code: StatusCode.Success, text: "" };
  const bytes = Buffer.from(value);
  return { code: bytes.readUInt16BE(0), text: bytes.toString("utf8", 2).replace(/\0+$/, "") };
}

/** `NoAddrsAvail: no addresses left` */
export function describeStatus({ code, text }: Status): string {
  const name = Object.entries(StatusCode).find(([, value]) => value === code)?.[0] ?? `status ${code}`;
  return text === "" ? name : `${name}: ${text}`;
}
