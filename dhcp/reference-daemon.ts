import { connect, type Socket } from "node:net";
import { decodeError, encodeCall, type GobStruct } from "./gob.ts";

/** Where the daemon of the reference's plugin listens, unless `ipam.daemonSocketPath` says otherwise. */
export const defaultDaemonSocket = "/run/cni/dhcp.sock";

/** What the plugin hands on of its own call. */
export interface DaemonCall {
  readonly containerId: string;
  readonly netns: string;
  readonly ifName: string;
  /** CNI_ARGS */
  readonly args: string;
  /** The network's configuration. */
  readonly config: unknown;
}

/** It was asked, and did not do so. */
export class ReferenceDaemonError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "ReferenceDaemonError";
  }
}

/** Whether somebody listens there. */
export async function isDaemonThere(socketPath: string, timeoutMs: number): Promise<boolean> {
  try {
    const socket = await open(socketPath, timeoutMs);
    socket.destroy();
    return true;
  } catch {
    return false;
  }
}

/**
 * Has the daemon of the reference's plugin give back the lease that it keeps for an attachment; success if it keeps none.
 * Its method DHCP.Release, by net/rpc of Go over HTTP.
 * @returns false where nobody listens
 * @throws {ReferenceDaemonError} with its own words, or where it does not answer in time
 */
export async function releaseByDaemon(
  socketPath: string,
  call: DaemonCall,
  { timeoutMs }: { readonly timeoutMs: number },
): Promise<boolean> {
  const socket = await open(socketPath, timeoutMs).catch(() => undefined);
  if (!socket) return false;
  const fail = (cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return new ReferenceDaemonError(`the dhcp daemon at ${JSON.stringify(socketPath)}: ${reason}`, cause);
  };
  try {
    const { containerId, netns, ifName, args, config } = call;
    const request: GobStruct = {
      name: "CmdArgs",
      fields: [
        ["ContainerID", containerId],
        ["Netns", netns],
        ["IfName", ifName],
        ["Args", args],
        ["Path", ""],
        ["StdinData", Buffer.from(JSON.stringify(config))],
      ],
    };
    socket.write("CONNECT /_goRPC_ HTTP/1.0\n\n");
    socket.write(encodeCall("DHCP.Release", request));
    const error = await readAnswer(socket);
    if (error !== "") throw fail(error);
    return true;
  } catch (cause) {
    throw cause instanceof ReferenceDaemonError ? cause : fail(cause);
  } finally {
    socket.destroy();
  }
}

async function open(path: string, timeoutMs: number): Promise<Socket> {
  const socket = connect(path);
  socket.setTimeout(timeoutMs, () => socket.destroy(new Error(`no answer within ${timeoutMs} ms`)));
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  // What comes later is thrown to whoever reads.
  socket.on("error", () => undefined);
  return socket;
}

/** The error that the answer has in it; "" for success. */
async function readAnswer(socket: Socket): Promise<string> {
  let received = Buffer.alloc(0);
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    received = Buffer.concat([received, chunk]);
    const [head, status] = /^(HTTP\/1\.[01] \d+)[^]*?\r?\n\r?\n/u.exec(received.toString("latin1")) ?? [];
    if (head === undefined) continue;
    if (!status?.endsWith(" 200")) throw new Error(`it answers ${JSON.stringify(status)}`);
    const error = decodeError(received.subarray(head.length));
    if (error !== undefined) return error;
  }
  throw new Error("it has hung up");
}
