import { type ChildProcess, spawn } from "node:child_process";
import { messageOf } from "#cni/error-causes.ts";
import { Failure } from "#netctl/failure.ts";
import type { CapturePoint } from "./points.ts";

export interface TcpdumpOptions {
  /** What is wanted, in pcap-filter(7)'s words; empty for everything. */
  readonly filter: readonly string[];
  /** "pcap": what PcapReader reads; "text": lines. */
  readonly output: "pcap" | "text";
}

/** tcpdump at one point, in that namespace. */
export class Tcpdump {
  readonly point: CapturePoint;
  /** Settles once packets are being captured. Rejects where they can't be. */
  readonly ready: Promise<void>;
  /** Settles when it has ended; rejects where it failed. */
  readonly ended: Promise<void>;
  readonly #process: ChildProcess;
  #isStopping = false;

  constructor(point: CapturePoint, { filter, output }: TcpdumpOptions, take: (piece: Buffer) => void) {
    this.point = point;
    const args = [
      `--net=${point.netns}`,
      "tcpdump",
      "-n",
      "-i",
      point.link,
      ...(point.isPromiscuous ? [] : ["-p"]),
      ...(output === "pcap"
        ? ["-U", "--immediate-mode", "--time-stamp-precision=nano", "-w", "-"]
        : ["-l", "--immediate-mode", "-tttt"]),
      ...filter,
    ];
    this.#process = spawn("nsenter", args, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process.stdout?.on("data", take);
    let said = "";
    let settle: { resolve(): void; reject(error: Error): void } | undefined;
    this.ready = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.#process.stderr?.on("data", (piece: Buffer) => {
      said += piece.toString("utf8");
      if (/listening on /.test(said)) settle?.resolve();
    });
    this.ended = new Promise((resolve, reject) => {
      const fail = (why: string) => {
        const failure = new Failure(`Cannot capture at ${point.name}: ${why}`);
        settle?.reject(failure);
        reject(failure);
      };
      this.#process.on("error", (error) => fail(messageOf(error)));
      this.#process.on("close", (code) => {
        settle?.resolve();
        if (code === 0 || this.#isStopping) resolve();
        else fail(reasonIn(said));
      });
    });
    // Whoever waits for one may not wait for the other.
    this.ready.catch(() => undefined);
    this.ended.catch(() => undefined);
  }

  /** Ends it as Ctrl-C does: what it has seen is printed still. Safe to call twice. */
  stop(): void {
    this.#isStopping = true;
    this.#process.kill("SIGINT");
  }
}

/** tcpdump's last line that is about an error. */
function reasonIn(said: string): string {
  if (/failed to execute tcpdump|No such file or directory/.test(said) && said.includes("nsenter"))
    return "there is no tcpdump: apt-get install tcpdump, or whatever this system calls it";
  const lines = said.split("\n").filter((line) => line.trim() !== "" && !/listening on/.test(line));
  return (lines.at(-1) ?? "it ended without a word").replace(/^tcpdump: /, "");
}
