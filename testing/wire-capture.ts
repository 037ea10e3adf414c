import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestNamespace } from "./test-namespace.ts";

/** What tcpdump sees on one link, byte for byte. */
export class WireCapture {
  readonly #namespace: TestNamespace;
  readonly #directory: string;
  readonly #child: ChildProcess;

  private constructor(namespace: TestNamespace, directory: string, child: ChildProcess) {
    this.#namespace = namespace;
    this.#directory = directory;
    this.#child = child;
  }

  /** It sees all that comes from now on. @param device in that namespace */
  static async start(namespace: TestNamespace, device: string): Promise<WireCapture> {
    const directory = mkdtempSync(join(tmpdir(), "netctl-capture-"));
    const words = ["tcpdump", "-Z", "root", "--immediate-mode", "-U", "-n", "-s0", "-B", "16384"];
    words.push("-i", device, "-w", join(directory, "pcap"));
    const child = spawn("nsenter", [`--net=${namespace.path}`, ...words], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    await new Promise<void>((resolve, reject) => {
      let said = "";
      child.stderr.on("data", (part: Buffer) => {
        said += part.toString();
        if (said.includes("listening on")) resolve();
      });
      child.once("error", reject);
      child.once("exit", () => reject(new Error(`tcpdump ended: ${said}`)));
    });
    return new WireCapture(namespace, directory, child);
  }

  /** Ends it. */
  async stop(): Promise<Captured> {
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGTERM");
    await ended;
    const path = join(this.#directory, "pcap");
    const bytes = readFileSync(path);
    const lines = (filter: string) =>
      this.#namespace
        .run(`tcpdump -n -e -r ${path} '${filter}' 2>/dev/null`)
        .split("\n")
        .filter((line) => line !== "");
    return {
      includes: (hex) => bytes.includes(Buffer.from(hex, "hex")),
      matching: lines,
      remove: () => rmSync(this.#directory, { recursive: true, force: true }),
    };
  }
}

export interface Captured {
  /** Whether these bytes were in any packet. */
  readonly includes: (hex: string) => boolean;
  /** tcpdump's words for each packet that a filter of pcap-filter(7) takes. */
  readonly matching: (filter: string) => readonly string[];
  readonly remove: () => void;
}
