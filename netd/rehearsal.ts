import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import type { Outcome } from "#cni/plugin.ts";
import type { Log } from "#machine/log.ts";
import { standIn } from "#native/addon.ts";
import { libDirectory } from "#native/lib-directory.ts";
import { openHost, type SuiteHost } from "#suite/host.ts";
import { ownLocality } from "./locality.ts";
import { playKernel } from "./played-kernel.ts";
import { accepted, decodeOutcome, encodeRequest } from "./protocol.ts";
import type { RequestServer } from "./server.ts";

/**
 * V8 compiles a function well only after it has run some hundred times. Until then an ADD takes twice as long, and the
 * first one ten times. So netd rehearses before it opens its socket: it serves requests that it sends itself, with
 * directories of their own and with a kernel that is played. Nothing of it is seen on the host.
 */

/** More than these bring nothing. */
const maxPairs = 400;

const scene = { bridge: "rehearsal0", gateway: "192.0.2.1/24", ifName: "eth0" };

const config = {
  cniVersion: "1.0.0",
  name: "rehearsal",
  type: "bridge",
  bridge: scene.bridge,
  isGateway: true,
  ipMasq: true,
  ipam: { type: "host-local", ranges: [[{ subnet: "192.0.2.0/24" }]], routes: [{ dst: "0.0.0.0/0" }] },
};

export interface RehearsalOptions {
  readonly runDirectory: string;
  readonly log: Log;
  /** How long it may take; 0: nothing is done. */
  readonly budgetMs: number;
  /** A server for this host, as the real one is made. */
  readonly openServer: (host: SuiteHost) => Promise<RequestServer>;
}

/** Never throws: where it can't rehearse, netd begins slowly. */
export async function rehearse({ runDirectory, log, budgetMs, openServer }: RehearsalOptions): Promise<void> {
  if (budgetMs === 0) return;
  const startMs = performance.now();
  // One name for all times, as nobody else is netd here: what a rehearsal has left that was killed is removed with it.
  const directory = join(runDirectory, `rehearsal-${ownLocality().network}`);
  const leave = standIn(playKernel(scene));
  try {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { mode: 0o700 });
    const pairs = await play({ directory, log, openServer, untilMs: startMs + budgetMs });
    log.debug("rehearsed", { pairs, milliseconds: Math.round(performance.now() - startMs) });
  } catch (error) {
    log.warn("cannot rehearse", { error: messageOf(error) });
  } finally {
    leave();
    removeQuietly(directory);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function removeQuietly(directory: string): void {
  try {
    rmSync(directory, { recursive: true, force: true });
  } catch {
    // The next start tries again.
  }
}

interface Play extends Pick<RehearsalOptions, "log" | "openServer"> {
  readonly directory: string;
  readonly untilMs: number;
}

async function play({ directory, log, openServer, untilMs }: Play): Promise<number> {
  const bin = join(directory, "bin");
  mkdirSync(bin);
  // Which is one of ours by its content.
  copyFileSync(join(libDirectory(), "launcher"), join(bin, config.ipam.type));
  const environment = {
    NETCTL_RUN_DIR: directory,
    NETCTL_STATE_DIR: join(directory, "state"),
    CNI_PATH: bin,
    CNI_CONTAINERID: "rehearsal",
    CNI_IFNAME: scene.ifName,
    CNI_NETNS: "/rehearsal",
  };
  const stdin = JSON.stringify({ ...config, ipam: { ...config.ipam, dataDir: join(directory, "leases") } });
  const host = openHost(environment, log);
  const server = await openServer(host);
  const path = join(directory, "socket");
  await server.listen({ path });
  try {
    let pairs = 0;
    while (pairs < maxPairs && performance.now() < untilMs) {
      for (const verb of ["ADD", "DEL"]) {
        const outcome = await ask(path, { ...environment, CNI_COMMAND: verb }, stdin);
        if (outcome?.exitCode !== 0) throw new Error(`${verb}: ${outcome?.stdout ?? "no answer"}`);
      }
      pairs++;
    }
    return pairs;
  } finally {
    await server.close();
    await host.close();
  }
}

/** What a launcher does. */
async function ask(
  path: string,
  environment: Readonly<Record<string, string>>,
  stdin: string,
): Promise<Outcome | undefined> {
  const request = { name: config.type, environment, stdin, locality: ownLocality(), timeoutMs: 10_000 };
  return await new Promise((resolve, reject) => {
    const pieces: Buffer[] = [];
    const socket = connect({ path, allowHalfOpen: true });
    socket.on("error", reject);
    socket.on("data", (piece: Buffer) => pieces.push(piece));
    socket.on("end", () => {
      socket.end();
      resolve(decodeOutcome(Buffer.concat(pieces).subarray(accepted.length)));
    });
    socket.write(encodeRequest(request));
  });
}
