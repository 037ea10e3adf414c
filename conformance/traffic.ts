import { type ChildProcess, spawn } from "node:child_process";
import type { Namespace } from "./namespace.ts";

/** Answers each TCP connection and each datagram with the address it came from, in both families. */
const serverScript = `
const port = Number(process.argv[1]);
const plain = (address) => address.replace(/^::ffff:/, "");
const tcp = require("node:net").createServer((socket) => {
  socket.on("error", () => {});
  socket.end(plain(socket.remoteAddress ?? "?"));
});
const udp = require("node:dgram").createSocket("udp6");
udp.on("message", (data, from) => udp.send(plain(from.address), from.port, from.address));
tcp.listen(port, "::", () => udp.bind(port, "::", () => console.log("ready")));
`;

const clientScript = `
const [patience, protocol, host, port, fromPort] = process.argv.slice(1);
const give = (text, reason) => { process.stdout.write(text || reason); process.exit(text === "" ? 1 : 0); };
setTimeout(() => give("", "no answer"), 2000 * Number(patience));
if (protocol === "tcp") {
  let text = "";
  const socket = require("node:net").connect(Number(port), host);
  socket.on("data", (data) => { text += data; });
  socket.on("error", (error) => give("", error.code));
  socket.on("close", () => give(text, "closed"));
} else {
  const socket = require("node:dgram").createSocket(host.includes(":") ? "udp6" : "udp4");
  socket.on("message", (data) => give(String(data)));
  socket.on("error", (error) => give("", error.code));
  socket.bind(Number(fromPort ?? 0), () => socket.send("who am I", Number(port), host));
}
`;

export const serverPort = 7100;

/** Starts the server inside; it ends with the returned process. */
export async function startServer(namespace: Namespace, port = serverPort): Promise<ChildProcess> {
  const child = spawn(
    "/usr/bin/nsenter",
    [`--net=${namespace.path}`, process.execPath, "-e", serverScript, String(port)],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`Cannot start a server on port ${port} in ${namespace.name}`)));
    child.stdout.once("data", () => resolve());
  });
  return child;
}

/**
 * The address under which the server at `host` saw us; "nobody: …" with the reason if it answered none of three
 * calls of 2 s each, times the namespace's patience.
 */
export async function askServer(
  namespace: Namespace,
  protocol: "tcp" | "udp",
  host: string,
  port = serverPort,
  /** Of UDP alone. */
  fromPort?: number,
): Promise<string> {
  const reasons: string[] = [];
  // A busy machine may lose the first packet to address resolution.
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const words = [namespace.patience, protocol, host, port, ...(fromPort ? [fromPort] : [])].map(String);
    const completed = await namespace.enter(process.execPath, ["-e", clientScript, ...words]);
    if (completed.exitCode === 0) return completed.stdout;
    reasons.push(completed.stdout || completed.stderr.trim());
  }
  return `nobody: ${reasons.join(", ")}`;
}

/**
 * True if TCP gets nothing from there within a second, times the namespace's patience. Asks once: for what would
 * have answered by then if it were let through, as something else beside it does.
 */
export async function isUnanswered(namespace: Namespace, host: string, port: number): Promise<boolean> {
  const words = [namespace.patience / 2, "tcp", host, port].map(String);
  return (await namespace.enter(process.execPath, ["-e", clientScript, ...words])).exitCode !== 0;
}

/** True if one of `attempts` pings, 1 s each, times the namespace's patience, is answered. */
export async function ping(
  namespace: Namespace,
  host: string,
  attempts = 2,
  source?: string,
): Promise<boolean> {
  const from = source === undefined ? [] : ["-I", source];
  for (let attempt = 0; attempt < attempts; attempt += 1) {
    const words = ["-n", "-q", "-c", "1", "-W", String(namespace.patience), ...from, host];
    const completed = await namespace.enter("ping", words);
    if (completed.exitCode === 0) return true;
  }
  return false;
}
