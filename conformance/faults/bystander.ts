import { type ChildProcess, spawn } from "node:child_process";
import { expect } from "#conformance/failure.ts";
import type { Namespace } from "#conformance/namespace.ts";

/** Pings the whole time from a container that has nothing to do with the fault: no packet of its may be lost. */
export class Bystander {
  readonly #target: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #answered = new Set<number>();
  #rest = "";
  #last = 0;

  /** @param source its own address, where it has to be told */
  constructor(namespace: Namespace, target: string, source?: string) {
    this.#target = target;
    const words = ["-n", "-i", "0.05", "-W", "1", ...(source === undefined ? [] : ["-I", source]), target];
    this.#child = spawn("/usr/bin/nsenter", [`--net=${namespace.path}`, "ping", ...words], {
      stdio: ["ignore", "pipe", "ignore"],
    });
    this.#ended = new Promise((resolve) => this.#child.once("close", () => resolve()));
    this.#child.stdout?.on("data", (chunk: Buffer) => this.#read(chunk.toString()));
  }

  #read(text: string): void {
    const lines = `${this.#rest}${text}`.split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const [, number] = /icmp_seq=(\d+).* time=/.exec(line) ?? [];
      if (number === undefined) continue;
      this.#answered.add(Number(number));
      this.#last = Math.max(this.#last, Number(number));
    }
  }

  /** Waits for the first answer. */
  async begun(): Promise<void> {
    const until = Date.now() + 10_000;
    while (this.#last === 0) {
      expect(Date.now() < until, `no answer from ${this.#target} to begin with`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** What was lost until now; empty if nothing was. The counter of `ping` wraps at 65536, after an hour. */
  lost(): string {
    const from = Math.min(...this.#answered);
    const missing: number[] = [];
    for (let number = from; number <= this.#last; number++) {
      if (!this.#answered.has(number)) missing.push(number);
    }
    if (missing.length === 0) return "";
    return `${missing.length} of ${this.#last} pings to ${this.#target} lost (${missing.slice(0, 5).join(", ")} …)`;
  }

  /** True if an answer has come since the last second or so. */
  async isAlive(): Promise<boolean> {
    const before = this.#last;
    const until = Date.now() + 3000;
    while (this.#last === before && Date.now() < until)
      await new Promise((resolve) => setTimeout(resolve, 20));
    return this.#last > before;
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}
