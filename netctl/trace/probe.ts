import { type ChildProcess, execFile, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { formatIp, type IpAddress } from "#net/ip.ts";
import { findProgram } from "#nftables/program.ts";
import type { Flow } from "./hop.ts";

const run = promisify(execFile);

/** For as long as a probe runs; in the host's namespace, and gone after it. */
const table = "netctl_trace";
const answerMs = 1000;

export interface ProbeStep {
  /** `inet netctl forward` */
  readonly chain: string;
  /** The rule, or "policy". */
  readonly rule: string;
  readonly verdict: string;
}

export interface ProbeResult {
  /** What the sender saw: "answered", "refused", "no answer". */
  readonly outcome: "answered" | "refused" | "no answer";
  /** Rules of the host's namespace that had something to say, in order, of the first packet. */
  readonly steps: readonly ProbeStep[];
}

/**
 * Sends one packet from a namespace and has the kernel tell which rules of the host it meets (nft's `nftrace`). A table of
 * its own, with nothing in it but that mark, is there while it runs.
 * @throws Error where nft is missing or refuses
 */
export async function probe(
  netns: string,
  address: IpAddress,
  source: IpAddress | undefined,
  flow: Flow,
): Promise<ProbeResult> {
  const nft = findProgram("nft");
  const match = matchOf(address, source, flow);
  const mark = (hook: string) =>
    `add chain inet ${table} ${hook} { type filter hook ${hook} priority -500; }; add rule inet ${table} ${hook} ${match} limit rate 20/second meta nftrace set 1;`;
  await run(nft, [
    `add table inet ${table}; flush table inet ${table}; ${mark("prerouting")} ${mark("output")}`,
  ]);
  // Into a pipe nft writes in blocks, and what is in the last one would be lost.
  const monitor = spawn(findProgram("stdbuf"), ["-oL", nft, "monitor", "trace"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  let text = "";
  monitor.stdout.on("data", (piece: Buffer) => (text += piece.toString()));
  try {
    await untilSubscribed(monitor);
    const outcome = await send(netns, address, flow);
    await sleep(100);
    return { outcome, steps: stepsIn(text) };
  } finally {
    monitor.kill();
    await run(nft, [`delete table inet ${table}`]).catch(() => undefined);
  }
}

/** nft says nothing when it has begun to listen; its socket is there before it reads. */
async function untilSubscribed(monitor: ChildProcess): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    monitor.once("spawn", resolve);
    monitor.once("error", reject);
  });
  await sleep(150);
}

function matchOf(address: IpAddress, source: IpAddress | undefined, { protocol, port }: Flow): string {
  const ip = address.family === 4 ? "ip" : "ip6";
  const from = source ? `${ip} saddr ${formatIp(source)} ` : "";
  const what =
    protocol === "icmp"
      ? `meta l4proto ${address.family === 4 ? "icmp" : "ipv6-icmp"}`
      : `${protocol} dport ${port}`;
  return `${from}${ip} daddr ${formatIp(address)} ${what}`;
}

/** A client in the sender's namespace: of Node, so that it needs no other program. */
const client = `
const [protocol, host, port, timeout] = process.argv.slice(1);
const say = (word) => { console.log(word); process.exit(0); };
setTimeout(() => say("no answer"), Number(timeout));
const refused = (error) => say(error.code === "ECONNREFUSED" ? "refused" : "no answer");
if (protocol === "tcp") {
  const socket = require("node:net").connect({ host, port: Number(port) }, () => say("answered"));
  socket.on("error", refused);
} else {
  const socket = require("node:dgram").createSocket(host.includes(":") ? "udp6" : "udp4");
  socket.on("error", refused);
  socket.on("message", () => say("answered"));
  socket.connect(Number(port), host, () => socket.send("netctl trace"));
}`;

async function send(
  netns: string,
  address: IpAddress,
  { protocol, port }: Flow,
): Promise<ProbeResult["outcome"]> {
  const target = formatIp(address);
  const inside = ["nsenter", `--net=${netns}`, "--"] as const;
  if (protocol === "icmp") {
    try {
      await run(inside[0], [...inside.slice(1), "ping", "-n", "-c1", "-W1", target]);
      return "answered";
    } catch {
      return "no answer";
    }
  }
  const words = [process.execPath, "-e", client, protocol, target, String(port), String(answerMs)];
  const { stdout } = await run(inside[0], [...inside.slice(1), ...words], {
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
  });
  return stdout.trim() as ProbeResult["outcome"];
}

/**
 * The first packet's lines of `nft monitor trace`. Rules that say nothing but "continue" are left out.
 *
 *     trace id 1f2e inet netctl forward rule iifname @internal ... drop (verdict drop)
 *     trace id 1f2e inet filter forward policy drop
 */
export function stepsIn(text: string): readonly ProbeStep[] {
  const lines = text.split("\n").flatMap((line) => {
    const found = /^trace id ([0-9a-f]+) (\S+ \S+ \S+) (.*)$/.exec(line);
    return found ? [{ id: found[1], chain: found[2] ?? "", rest: found[3] ?? "" }] : [];
  });
  // The kernel makes the id of the packet's first interface too, and a bridge takes another's place on the way. So of
  // each chain the packet that came to it first is looked at.
  const firstIds = new Map<string, string | undefined>();
  for (const { id, chain } of lines) if (!firstIds.has(chain)) firstIds.set(chain, id);
  return lines
    .filter(({ id, chain }) => id === firstIds.get(chain) && !chain.includes(table))
    .flatMap(({ chain, rest }): readonly ProbeStep[] => {
      const rule = /^rule (.*) \(verdict ([a-z]+)(?: .*)?\)$/.exec(rest);
      if (rule) return rule[2] === "continue" ? [] : [{ chain, rule: rule[1] ?? "", verdict: rule[2] ?? "" }];
      const policy = /^policy ([a-z]+)/.exec(rest);
      return policy ? [{ chain, rule: "policy", verdict: policy[1] ?? "" }] : [];
    });
}
