import { execFile, spawn } from "node:child_process";
import { promisify } from "node:util";
import { patience } from "./patience.ts";
import type { TestNamespace } from "./test-namespace.ts";

const run = promisify(execFile);

/** Answers each TCP connection and each datagram with "NAME sees ADDRESS", on all ports, in both families. */
const serverScript = `
const [name, ...ports] = process.argv.slice(1);
const answer = (address) => name + " sees " + address.replace(/^::ffff:/, "");
const listen = (port) => new Promise((resolve, reject) => {
  const tcp = require("node:net").createServer((socket) => {
    socket.on("error", () => {});
    socket.end(answer(socket.remoteAddress ?? "?"));
  });
  const udp = require("node:dgram").createSocket("udp6");
  udp.on("message", (data, from) => udp.send(answer(from.address), from.port, from.address));
  tcp.on("error", reject); udp.on("error", reject);
  tcp.listen(port, "::", () => udp.bind(port, "::", resolve));
});
Promise.all(ports.map(Number).map(listen)).then(() => console.log("ready"));
`;

const clientScript = `
const questions = JSON.parse(process.argv[1]);
let left = Number(process.argv[2]);
const waiting = [];
// Counted in pieces, each of which this process was awake for: where it is starved, so is who should answer.
setInterval(() => { if (--left <= 0) for (const giveUp of waiting) giveUp("silence"); }, 20);
const ask = ({ protocol, to, port, from, fromPort }) => new Promise((resolve) => {
  waiting.push(resolve);
  const failed = (error) => resolve(error.code);
  if (protocol === "udp") {
    const socket = require("node:dgram").createSocket(to.includes(":") ? "udp6" : "udp4");
    socket.on("message", (data) => resolve(String(data)));
    socket.on("error", failed);
    socket.bind(fromPort, from, () =>
      socket.connect(port, to, (error) => (error ? failed(error) : socket.send("x"))));
  } else {
    let text = "";
    const socket = require("node:net").connect({ port, host: to, localAddress: from });
    socket.on("data", (data) => { text += data; });
    socket.on("error", failed);
    socket.on("close", () => resolve(text || "closed"));
  }
});
Promise.all(questions.map(ask)).then((answers) => { process.stdout.write(JSON.stringify(answers)); process.exit(); });
`;

export interface Question {
  readonly protocol: "tcp" | "udp";
  readonly to: string;
  readonly port: number;
  /** The asker's own address. */
  readonly from?: string;
  /** Of UDP alone. */
  readonly fromPort?: number;
}

/**
 * Starts a server inside that tells every caller by which address it sees it.
 * @returns what ends it
 */
export async function startServer(
  namespace: TestNamespace,
  name: string,
  ports: readonly number[],
): Promise<() => void> {
  const child = spawn(
    "nsenter",
    [`--net=${namespace.path}`, process.execPath, "-e", serverScript, name, ...ports.map(String)],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => reject(new Error(`The server in ${namespace.name} has ended`)));
    child.stdout.once("data", () => resolve());
  });
  return () => child.kill("SIGKILL");
}

/**
 * Asks all at once; each answer is the server's, or the error's code ("ECONNREFUSED"), or "silence" after a second,
 * times the patience.
 */
export async function ask(
  namespace: TestNamespace,
  questions: readonly Question[],
): Promise<readonly string[]> {
  const { stdout } = await run("nsenter", [
    `--net=${namespace.path}`,
    process.execPath,
    "-e",
    clientScript,
    JSON.stringify(questions),
    String(50 * patience),
  ]);
  return JSON.parse(stdout) as string[];
}

/** Asks one thing. */
export async function askOnce(namespace: TestNamespace, question: Question): Promise<string> {
  return (await ask(namespace, [question]))[0] ?? "";
}
