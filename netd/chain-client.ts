import { lstatSync } from "node:fs";
import { connect } from "node:net";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { Environment, Outcome } from "#cni/plugin.ts";
import type { ChainOutcome } from "#runtime/chain-plugins.ts";
import {
  type ChainCall,
  type ChainService,
  decodeChainOutcome,
  encodeChainCall,
} from "#runtime/chain-service.ts";
import type { PluginHost } from "#runtime/plugin-call.ts";
import { ownLocality } from "./locality.ts";
import {
  accepted,
  bodyBytes,
  chainRequestName,
  decodeHeader,
  decodeOutcome,
  encodeRequest,
  socketPath,
} from "./protocol.ts";

/** The launcher waits as long. */
const acceptTimeoutMs = 1000;
const defaultTimeoutMs = 60_000;
const maxTimeoutMs = 1_000_000_000;

/**
 * Hands chains to the netd of this network namespace, by the same rules as the launcher hands it single plugins: what
 * was not taken within a second, or whose netd has died, the caller does itself; what was taken and is not answered
 * within NETCTL_TIMEOUT_MS fails with code 11, and netd takes it back.
 */
export class NetdChains implements ChainService {
  readonly #runDirectory: string;

  constructor(runDirectory: string) {
    this.#runDirectory = runDirectory;
  }

  async run(call: ChainCall, host: PluginHost, signal?: AbortSignal): Promise<ChainOutcome | undefined> {
    if (host.environment["NETCTL_STANDALONE"] === "1") return undefined;
    const { environment, stdin } = encodeChainCall(call, host);
    const locality = ownLocality();
    const path = socketPath(this.#runDirectory, locality.network);
    if (!isTrusted(path)) return undefined;
    const timeoutMs = timeoutOf(environment);
    const request = { name: chainRequestName, environment: present(environment), stdin, locality, timeoutMs };
    const bytes = encodeRequest(request);
    if (!fits(bytes)) return undefined;
    const outcome = await exchange(path, bytes, timeoutMs, signal);
    return outcome && decodeChainOutcome(JSON.parse(outcome.stdout), call);
  }
}

/** @returns undefined where netd has not taken the request, or has died. @throws {CniError} 11 */
function exchange(
  path: string,
  bytes: Buffer,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<Outcome | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path, allowHalfOpen: true });
    let received = Buffer.alloc(0);
    // Closed for writing, the request is withdrawn; the answer then says how that went.
    const withdraw = () => socket.end();
    const settle = (action: () => void) => {
      clearTimeout(accepting);
      clearTimeout(answering);
      signal?.removeEventListener("abort", withdraw);
      socket.destroy();
      action();
    };
    const giveUp = () => settle(() => resolve(undefined));
    const accepting = setTimeout(giveUp, acceptTimeoutMs);
    const answering = setTimeout(() => settle(() => reject(late())), timeoutMs);
    socket.on("connect", () => socket.write(bytes));
    socket.on("error", giveUp).on("end", giveUp).on("close", giveUp);
    socket.on("data", (piece: Buffer) => {
      received = Buffer.concat([received, piece]);
      if (received[0] !== accepted[0]) {
        giveUp();
        return;
      }
      clearTimeout(accepting);
      try {
        const outcome = decodeOutcome(received.subarray(1));
        if (outcome) settle(() => resolve(outcome));
      } catch (error) {
        settle(() => reject(error));
      }
    });
    if (signal?.aborted) withdraw();
    else signal?.addEventListener("abort", withdraw, { once: true });
  });
}

function late(): CniError {
  return new CniError(
    ErrorCode.TryAgainLater,
    "Cannot get an answer from netd within the deadline (NETCTL_TIMEOUT_MS): try again later",
  );
}

/** A socket that root or this user has made. */
function isTrusted(path: string): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats !== undefined && stats.isSocket() && (stats.uid === 0 || stats.uid === process.geteuid?.());
}

/** What the launcher takes for a number. */
function timeoutOf(environment: Environment): number {
  const text = environment["NETCTL_TIMEOUT_MS"] ?? "";
  const value = /^\d+$/.test(text) ? Number(text) : 0;
  return value === 0 ? defaultTimeoutMs : Math.min(value, maxTimeoutMs);
}

function fits(bytes: Buffer): boolean {
  try {
    return bodyBytes(decodeHeader(bytes)) > 0;
  } catch {
    return false;
  }
}

function present(environment: Environment): Record<string, string> {
  return Object.fromEntries(
    Object.entries(environment).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  );
}
