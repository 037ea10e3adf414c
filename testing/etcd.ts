import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** etcd servers of one test, on addresses of the loopback that nobody else has, with their data in a temporary directory. */
export class TestEtcd {
  readonly #directory = mkdtempSync(join(tmpdir(), "netctl-etcd-"));
  readonly #members: Member[] = [];

  private constructor() {}

  /** One member, or a cluster of several; resolves when all of them answer. */
  static async start(count = 1, options: readonly string[] = []): Promise<TestEtcd> {
    const etcd = new TestEtcd();
    for (let index = 0; index < count; index++) {
      // Ports below those that the kernel gives out: nobody takes one while its member is away.
      const address = freshAddress();
      etcd.#members.push({
        name: `m${index}`,
        clientUrl: `http://${address}:2379`,
        peerUrl: `http://${address}:2380`,
        options,
      });
    }
    for (let index = 0; index < count; index++) etcd.spawn(index);
    await Promise.all(etcd.#members.map((member) => untilHealthy(member)));
    return etcd;
  }

  get endpoints(): readonly string[] {
    return this.#members.map((member) => member.clientUrl);
  }

  /** Starts a member that does not run, with the data that it had. */
  spawn(index: number): void {
    const member = this.#member(index);
    const { name, clientUrl, peerUrl } = member;
    const cluster = this.#members.map((one) => `${one.name}=${one.peerUrl}`).join(",");
    const words = [
      ["--name", name, "--data-dir", join(this.#directory, name)],
      ["--listen-client-urls", clientUrl, "--advertise-client-urls", clientUrl],
      ["--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl],
      ["--initial-cluster", cluster],
      // Durability is not what is tested, and a disk that is busy would make elections.
      ["--unsafe-no-fsync", "--logger", "zap", "--log-level", "error", ...member.options],
    ];
    member.process = spawn("etcd", words.flat(), { stdio: "ignore" });
  }

  /** Until it is answered again, as after `spawn`. */
  async untilHealthy(index: number): Promise<void> {
    await untilHealthy(this.#member(index));
  }

  signal(index: number, signal: NodeJS.Signals): void {
    this.#member(index).process?.kill(signal);
  }

  async kill(index: number): Promise<void> {
    const { process } = this.#member(index);
    if (!process || process.exitCode !== null || process.signalCode !== null) return;
    const ended = new Promise((resolve) => process.once("exit", resolve));
    process.kill("SIGKILL");
    await ended;
  }

  /** Takes a member's data away, while it does not run. */
  empty(index: number): void {
    rmSync(join(this.#directory, this.#member(index).name), { recursive: true, force: true });
  }

  async remove(): Promise<void> {
    for (const index of this.#members.keys()) await this.kill(index);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #member(index: number): Member {
    const member = this.#members[index];
    if (!member) throw new Error(`There is no etcd member ${index}`);
    return member;
  }
}

interface Member {
  readonly name: string;
  readonly clientUrl: string;
  readonly peerUrl: string;
  readonly options: readonly string[];
  process?: ChildProcess;
}

/** Of 127.0.0.0/8, which is this machine's as a whole (RFC 1122 section 3.2.1.3), one of sixteen million. */
function freshAddress(): string {
  return `127.${randomInt(1, 255)}.${randomInt(256)}.${randomInt(1, 255)}`;
}

async function untilHealthy({ name, clientUrl }: Member): Promise<void> {
  for (let attempt = 0; attempt < 450; attempt++) {
    try {
      const answer = await fetch(`${clientUrl}/health`, { signal: AbortSignal.timeout(2000) });
      if (((await answer.json()) as { health?: string }).health === "true") return;
    } catch {
      // Not yet.
    }
    await sleep(100);
  }
  throw new Error(`etcd ${name} did not become healthy at ${clientUrl}`);
}
