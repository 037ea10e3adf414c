/** The few messages of etcd's API that are used, as its JSON gateway writes them: 64-bit numbers are text, bytes are base64, what is zero or false is left out. */

export interface Header {
  readonly cluster_id?: string;
  readonly revision?: string;
}

export interface KeyValue {
  readonly key: string;
  readonly value?: string;
  readonly mod_revision?: string;
}

export interface RangeAnswer {
  readonly header?: Header;
  readonly kvs?: readonly KeyValue[];
  readonly more?: boolean;
}

export interface TxnAnswer {
  readonly header?: Header;
  readonly succeeded?: boolean;
  readonly responses?: readonly { readonly response_range?: RangeAnswer }[];
}

export interface WatchAnswer {
  readonly result?: {
    readonly header?: Header;
    readonly created?: boolean;
    readonly canceled?: boolean;
    readonly compact_revision?: string;
    readonly cancel_reason?: string;
    readonly events?: readonly { readonly type?: string; readonly kv?: KeyValue }[];
  };
  readonly error?: { readonly message?: string; readonly grpc_code?: number };
}

export const encodeText = (text: string): string => Buffer.from(text, "utf8").toString("base64");

/** What is decoded stands here for a moment: tens of thousands of small texts would each take a Buffer. */
const scratch = Buffer.allocUnsafeSlow(4096);

export function decodeText(base64: string | undefined): string {
  if (base64 === undefined) return "";
  if (base64.length > scratch.length) return Buffer.from(base64, "base64").toString("utf8");
  return scratch.toString("utf8", 0, scratch.write(base64, "base64"));
}

export function toNumber(text: string | undefined): number {
  const value = Number(text ?? "0");
  if (!Number.isSafeInteger(value))
    throw new Error(`Cannot read ${JSON.stringify(text)}: not a number that fits`);
  return value;
}

/** The first key behind all that begin with `prefix` (etcd's range_end); "\0" means to the end of all keys. */
export function endOfPrefix(prefix: string): string {
  const bytes = Buffer.from(prefix, "utf8");
  for (let at = bytes.length - 1; at >= 0; at--) {
    const byte = bytes[at] ?? 0xff;
    if (byte < 0xff) {
      const end = Buffer.from(bytes.subarray(0, at + 1));
      end[at] = byte + 1;
      return end.toString("base64");
    }
  }
  return Buffer.from([0]).toString("base64");
}
