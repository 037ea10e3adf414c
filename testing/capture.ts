import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Message, messagesIn } from "#netlink/message.ts";

const directory = join(import.meta.dirname, "captures");

/** Names of all captured messages; `captures/record.mjs` made them and each says by which command. */
export function captureNames(): readonly string[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(".hex"))
    .map((name) => name.slice(0, -".hex".length));
}

/** The bytes of one captured netlink message, header included. */
export function readCapture(name: string): Uint8Array {
  const text = readFileSync(join(directory, `${name}.hex`), "utf8");
  return Uint8Array.from(Buffer.from(text.replace(/^#.*$/gm, "").replace(/\s/g, ""), "hex"));
}

/** The same, its header read. */
export function readCapturedMessage(name: string): Message {
  const [message] = messagesIn(readCapture(name));
  if (!message) throw new Error(`Capture ${name} is empty`);
  return message;
}
