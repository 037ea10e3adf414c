import { connect, type Socket } from "node:net";

/**
 * Where the system's bus is, unless the environment says otherwise.
 * @see D-Bus specification 0.43, "Well-known Message Bus Instances"
 */
export function systemBusPath(environment: Readonly<Record<string, string | undefined>>): string {
  const address = environment["DBUS_SYSTEM_BUS_ADDRESS"] ?? "";
  return /^unix:path=([^,;]+)/u.exec(address)?.[1] ?? "/run/dbus/system_bus_socket";
}

/** A call of a method whose arguments are all text. */
export interface DbusCall {
  /** Name on the bus: `org.fedoraproject.FirewallD1`. */
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly args: readonly string[];
}

/** The bus can't be reached, or whoever was called refuses. */
export class DbusError extends Error {
  /** True for an answer from the other side; false if there was none. */
  readonly isRefusal: boolean;

  constructor(message: string, details: { readonly isRefusal: boolean; readonly cause?: unknown }) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "DbusError";
    this.isRefusal = details.isRefusal;
  }
}

const defaultTimeoutMs = 10_000;

/**
 * Calls one method over a connection of its own, as the user of this process. Like `busctl call`.
 * @param socketPath unix socket of the bus
 * @returns the texts of the answer, if it is one text or a list of them; otherwise nothing
 * @throws {DbusError}
 * @see D-Bus specification 0.43, "Message protocol" and "Authentication protocol"
 */
export async function callDbus(
  socketPath: string,
  call: DbusCall,
  { timeoutMs = defaultTimeoutMs }: { readonly timeoutMs?: number } = {},
): Promise<readonly string[]> {
  const socket = connect(socketPath);
  const unreachable = (cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new DbusError(`Cannot reach the bus at ${socketPath}: ${reason}`, { isRefusal: false, cause });
  };
  const deadline = setTimeout(() => socket.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
  try {
    const reader = new Reader(socket);
    // EXTERNAL without an identity: the bus takes that of the socket's other end.
    socket.write("\0AUTH EXTERNAL\r\n");
    await reader.line("DATA");
    socket.write("DATA\r\n");
    await reader.line("OK");
    const hello = {
      destination: "org.freedesktop.DBus",
      path: "/org/freedesktop/DBus",
      interface: "org.freedesktop.DBus",
      member: "Hello",
      args: [],
    };
    socket.write(Buffer.concat([Buffer.from("BEGIN\r\n"), encodeCall(hello, 1), encodeCall(call, 2)]));
    for (;;) {
      const message = decodeMessage(await reader.message());
      if (message.replyTo !== 2) {
        if (message.replyTo === 1 && message.error !== undefined) throw refusal(message);
        continue;
      }
      if (message.error !== undefined) throw refusal(message);
      return message.texts;
    }
  } catch (error) {
    throw error instanceof DbusError ? error : unreachable(error);
  } finally {
    clearTimeout(deadline);
    socket.destroy();
  }
}

function refusal({ error, texts }: Message): DbusError {
  return new DbusError([error ?? "", ...texts].filter((text) => text !== "").join(": "), { isRefusal: true });
}

/** What comes in, cut into lines and messages. */
class Reader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.#chunks = (socket as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  /** Of the authentication. */
  async line(word: string): Promise<void> {
    let end = this.#rest.indexOf("\r\n");
    while (end === -1) {
      await this.#more();
      end = this.#rest.indexOf("\r\n");
    }
    const line = this.#rest.toString("latin1", 0, end);
    this.#rest = this.#rest.subarray(end + 2);
    if (line !== word && !line.startsWith(`${word} `)) {
      throw new DbusError(`The bus does not let this user in: ${line}`, { isRefusal: true });
    }
  }

  async message(): Promise<Buffer> {
    while (this.#rest.length < 16) await this.#more();
    const length = 16 + aligned(numberAt(this.#rest, 12), 8) + numberAt(this.#rest, 4);
    while (this.#rest.length < length) await this.#more();
    const message = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return message;
  }

  async #more(): Promise<void> {
    const next = await this.#chunks.next();
    if (next.done === true) throw new Error("the bus has hung up");
    this.#rest = Buffer.concat([this.#rest, next.value]);
  }
}

function aligned(offset: number, to: number): number {
  return Math.ceil(offset / to) * to;
}

/** The bus answers in the sender's byte order or in its own: its machine is ours, and so little-endian mostly. */
function numberAt(message: Buffer, offset: number): number {
  return message[0] === 0x42 ? message.readUInt32BE(offset) : message.readUInt32LE(offset);
}

const callType = 1;
const errorType = 3;
/** Codes of header fields: D-Bus specification, "Header fields". */
const field = {
  path: 1,
  interface: 2,
  member: 3,
  errorName: 4,
  replySerial: 5,
  destination: 6,
  signature: 8,
};

function encodeCall(call: DbusCall, serial: number): Buffer {
  const fields = new Writer();
  const text = (code: number, type: string, value: string) => {
    fields.align(8);
    fields.bytes([code]);
    fields.signature(type);
    if (type === "g") fields.signature(value);
    else fields.text(value);
  };
  text(field.path, "o", call.path);
  text(field.interface, "s", call.interface);
  text(field.member, "s", call.member);
  text(field.destination, "s", call.destination);
  if (call.args.length > 0) text(field.signature, "g", "s".repeat(call.args.length));
  const body = new Writer();
  for (const arg of call.args) body.text(arg);
  const message = new Writer();
  message.bytes([0x6c, callType, 0, 1]);
  message.number(body.length);
  message.number(serial);
  message.number(fields.length);
  message.bytes(fields.content());
  message.align(8);
  message.bytes(body.content());
  return Buffer.from(message.content());
}

/** Values in little-endian order, each aligned as its type wants. */
class Writer {
  readonly #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }

  content(): readonly number[] {
    return this.#bytes;
  }

  align(to: number): void {
    while (this.#bytes.length % to !== 0) this.#bytes.push(0);
  }

  bytes(values: Iterable<number>): void {
    for (const value of values) this.#bytes.push(value);
  }

  number(value: number): void {
    this.align(4);
    this.bytes([value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24]);
  }

  text(value: string): void {
    const bytes = Buffer.from(value);
    this.number(bytes.length);
    this.bytes(bytes);
    this.bytes([0]);
  }

  signature(value: string): void {
    this.bytes([value.length, ...Buffer.from(value), 0]);
  }
}

interface Message {
  readonly replyTo: number | undefined;
  /** Name of the error that it is. */
  readonly error: string | undefined;
  readonly texts: readonly string[];
}

function decodeMessage(message: Buffer): Message {
  const fieldsEnd = 16 + numberAt(message, 12);
  let replyTo: number | undefined;
  let error: string | undefined;
  let signature = "";
  for (let at = 16; at < fieldsEnd; ) {
    at = aligned(at, 8);
    const code = message[at];
    const type = message.toString("latin1", at + 2, at + 3);
    // A header field's value is of one of the types u, g, s and o: each one letter.
    const value = at + 4;
    if (type === "u") {
      if (code === field.replySerial) replyTo = numberAt(message, aligned(value, 4));
      at = aligned(value, 4) + 4;
    } else if (type === "g") {
      const length = message[value] ?? 0;
      if (code === field.signature) signature = message.toString("latin1", value + 1, value + 1 + length);
      at = value + length + 2;
    } else {
      const start = aligned(value, 4);
      const length = numberAt(message, start);
      if (code === field.errorName) error = message.toString("utf8", start + 4, start + 4 + length);
      at = start + 4 + length + 1;
    }
  }
  const isError = message[1] === errorType;
  const texts = textsIn(message, aligned(fieldsEnd, 8), signature);
  return { replyTo, error: isError ? (error ?? "an error without a name") : undefined, texts };
}

/** Offsets count from the message's beginning, where the body begins at a multiple of 8. */
function textsIn(message: Buffer, body: number, signature: string): readonly string[] {
  const texts: string[] = [];
  const readText = (at: number): number => {
    const start = aligned(at, 4);
    const length = numberAt(message, start);
    texts.push(message.toString("utf8", start + 4, start + 4 + length));
    return start + 4 + length + 1;
  };
  if (signature.startsWith("as")) {
    const end = body + 4 + numberAt(message, body);
    for (let at = body + 4; at < end; ) at = readText(at);
  } else if (signature.startsWith("s")) {
    readText(body);
  }
  return texts;
}
