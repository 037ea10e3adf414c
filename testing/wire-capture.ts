import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, mkdtempSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { requireLink } from "#kernel/link.ts";
import { NetworkNamespace } from "#kernel/namespace.ts";
import { native } from "#native/addon.ts";
import { parseIfName } from "#net/ifname.ts";
import type { TestNamespace } from "./test-namespace.ts";

/** What tcpdump sees on one link, byte for byte. */
export class WireCapture {
  readonly #namespace: TestNamespace;
  readonly #directory: string;
  readonly #child: ChildProcess;
  readonly #device: string;

  private constructor(namespace: TestNamespace, device: string, directory: string, child: ChildProcess) {
    this.#namespace = namespace;
    this.#device = device;
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
    return new WireCapture(namespace, device, directory, child);
  }

  /** tcpdump reads what the kernel has for it when it gets to it: a frame of our own says that it has. */
  async #drain(): Promise<void> {
    const namespace = NetworkNamespace.open(this.#namespace.path);
    try {
      const link = requireLink(namespace, parseIfName(this.#device));
      const socket = native().packetSocketIn(namespace.fd, link.ifindex, 0);
      try {
        const mark = randomBytes(46);
        const addresses = "020000000001020000000002";
        const frame = Buffer.concat([Buffer.from(addresses + etherType, "hex"), mark]);
        const isIn = () => readFileSync(join(this.#directory, "pcap")).includes(mark);
        for (let attempt = 0; attempt < 600 && !isIn(); attempt++) {
          writeSync(socket, frame);
          await sleep(50);
        }
        if (!isIn()) throw new Error(`tcpdump has not read what came by ${this.#device} for half a minute`);
      } finally {
        closeSync(socket);
      }
    } finally {
      namespace.close();
    }
  }

  /** Ends it, when all that has come is in it. */
  async stop(): Promise<Captured> {
    await this.#drain();
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

/** For local experiments: IEEE 802, section 9.2.3. Who gets such a frame drops it. */
const etherType = "88b5";

export interface Captured {
  /** Whether these bytes were in any packet. */
  readonly includes: (hex: string) => boolean;
  /** tcpdump's words for each packet that a filter of pcap-filter(7) takes. */
  readonly matching: (filter: string) => readonly string[];
  readonly remove: () => void;
}
