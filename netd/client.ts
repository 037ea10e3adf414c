import { lstatSync } from "node:fs";
import { connect } from "node:net";
import type { Outcome } from "#cni/plugin.ts";
import { ownLocality } from "./locality.ts";
import { accepted, decodeOutcome, encodeRequest, socketPath } from "./protocol.ts";

/** No netd answers here; or one that serves other directories, or is about to end. */
export class NetdUnavailable extends Error {
  override readonly name = "NetdUnavailable";
}

export interface NetdCall {
  readonly runDirectory: string;
  /** What is called, and with what. */
  readonly name: string;
  readonly stdin: string;
  /** NETCTL_*_DIR decide whether this netd is the one that is meant. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly timeoutMs: number;
}

/**
 * Asks the netd of this network namespace, as the launcher does.
 * @throws {NetdUnavailable} there is none, it declines, or gives no answer in time
 */
export async function callNetd(call: NetdCall): Promise<Outcome> {
  const locality = ownLocality();
  const environment = Object.fromEntries(
    Object.entries(call.environment).flatMap(([key, value]) =>
      value !== undefined && key.startsWith("NETCTL_") ? [[key, value]] : [],
    ),
  );
  const path = socketPath(call.runDirectory, locality.network);
  const owner = lstatSync(path, { throwIfNoEntry: false })?.uid;
  if (owner === undefined) throw new NetdUnavailable(`no netd runs here (${path})`);
  if (owner !== 0 && owner !== process.geteuid?.()) throw new NetdUnavailable(`${path} is user ${owner}'s`);
  const bytes = encodeRequest({
    name: call.name,
    environment,
    stdin: call.stdin,
    locality,
    timeoutMs: call.timeoutMs,
  });
  return await new Promise((resolve, reject) => {
    const fail = (reason: string) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new NetdUnavailable(`Cannot ask netd at ${path}: ${reason}`));
    };
    const timer = setTimeout(() => fail(`no answer within ${call.timeoutMs} ms`), call.timeoutMs);
    // Closing the writing half would withdraw the request.
    const socket = connect({ path });
    let received = Buffer.alloc(0);
    socket.on("connect", () => socket.write(bytes));
    socket.on("error", (error) => fail(error.message));
    socket.on("close", () => fail("it has closed the connection"));
    socket.on("data", (piece: Buffer) => {
      received = Buffer.concat([received, piece]);
      if (received[0] !== accepted[0]) {
        fail("it does not serve these directories, or is ending");
        return;
      }
      let outcome: Outcome | undefined;
      try {
        outcome = decodeOutcome(received.subarray(1));
      } catch (error) {
        fail(String(error));
        return;
      }
      if (!outcome) return;
      clearTimeout(timer);
      socket.removeAllListeners("close");
      socket.destroy();
      resolve(outcome);
    });
  });
}
