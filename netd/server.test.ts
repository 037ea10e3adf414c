import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { CniError, ErrorCode } from "#cni/error.ts";
import type { Outcome } from "#cni/plugin.ts";
import { fail } from "#cni/skel.ts";
import { lineLog } from "#machine/log.ts";
import { RequestClient } from "#testing/request-client.ts";
import { endAfterFault } from "./faults.ts";
import { encodeRequest, maxReplyBytes, maxStdinBytes, type Request } from "./protocol.ts";
import { type Caller, RequestServer, type ServerOptions } from "./server.ts";

const request: Request = {
  name: "bridge",
  environment: { CNI_COMMAND: "ADD" },
  stdin: "{}",
  locality: { network: 1n, mount: 2n, rootInode: 3n, rootDevice: 4 },
  timeoutMs: 60_000,
};
const whole = encodeRequest(request);
const done: Outcome = { exitCode: 0, stdout: "{}", stderr: "note\n" };

let directory: string;
let path: string;
let server: RequestServer;
let logged: string[];
const clients: RequestClient[] = [];
/** What the server was asked to carry out, in order. */
const calls: { readonly request: Request; readonly caller: Caller; answer: (outcome: Outcome) => void }[] =
  [];
const unanswered: ((outcome: Outcome) => void)[] = [];
let onCall = () => {};

async function start(options: Partial<ServerOptions> = {}): Promise<void> {
  server = new RequestServer({
    accepts: () => true,
    allowedUids: [process.getuid?.() ?? 0],
    serve: (received, caller) =>
      new Promise((answer) => {
        calls.push({ request: received, caller, answer });
        unanswered.push(answer);
        onCall();
      }),
    log: lineLog([{ level: "debug", write: (line) => logged.push(line) }]),
    ...options,
  });
  await server.listen({ path });
}

async function client(): Promise<RequestClient> {
  const opened = await RequestClient.open(path);
  clients.push(opened);
  return opened;
}

/** The call of a request that was just sent. */
async function nextCall() {
  if (calls.length === 0) await new Promise<void>((resolve) => (onCall = resolve));
  const call = calls.shift();
  if (!call) throw new Error("nothing was called");
  return call;
}

async function aborted({ signal }: Caller): Promise<unknown> {
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve));
  return signal.reason;
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-server-"));
  path = join(directory, "s");
  logged = [];
});
afterEach(async () => {
  for (const each of clients.splice(0)) each.socket.destroy();
  for (const answer of unanswered.splice(0)) answer(done);
  calls.length = 0;
  await server.close();
  rmSync(directory, { recursive: true });
});

describe("RequestServer", () => {
  it("accepts a request at once, and answers when it is carried out", async () => {
    await start();
    const caller = await client();
    caller.send(whole);
    expect(await caller.verdict()).toBe("A");
    const call = await nextCall();
    expect(call.request).toMatchObject({ name: "bridge", stdin: "{}" });
    expect(server.active).toBe(1);
    call.answer(done);
    expect(await caller.outcome()).toEqual(done);
    await caller.closed();
    expect(server.active).toBe(0);
  });

  it("serves several callers at the same time", async () => {
    await start();
    const [one, two] = [await client(), await client()];
    one.send(whole);
    const first = await nextCall();
    two.send(whole);
    (await nextCall()).answer({ ...done, stdout: "two" });
    expect(await two.outcome()).toMatchObject({ stdout: "two" });
    first.answer(done);
    expect(await one.outcome()).toEqual(done);
  });

  it("takes a request in pieces, and one of the largest size", async () => {
    await start();
    const large = { ...request, stdin: "x".repeat(maxStdinBytes) };
    const caller = await client();
    const bytes = encodeRequest(large);
    for (let at = 0; at < bytes.length; at += 1_000_003) caller.send(bytes.subarray(at, at + 1_000_003));
    const call = await nextCall();
    expect(call.request.stdin).toHaveLength(maxStdinBytes);
    const long = { ...done, stdout: "y".repeat(maxReplyBytes - 5) };
    call.answer(long);
    expect(await caller.outcome()).toEqual(long);
  });

  it("answers with an error where the plugin's output is longer than an answer can be", async () => {
    await start();
    const caller = await client();
    caller.send(whole);
    (await nextCall()).answer({ ...done, stdout: "y".repeat(maxReplyBytes + 1) });
    expect(await caller.outcome()).toMatchObject({ exitCode: 1 });
  });

  it.each([
    ["garbage", Buffer.alloc(48, "x")],
    ["more than a request", Buffer.concat([whole, Buffer.from("more")])],
    ["the announcement of too much", Buffer.concat([whole.subarray(0, 12), Buffer.alloc(36, 0xff)])],
  ])("refuses %s, and goes on", async (_, bytes) => {
    await start();
    const bad = await client();
    bad.send(bytes);
    expect(await bad.verdict()).toBe("N");
    const good = await client();
    good.send(whole);
    expect(await good.verdict()).toBe("A");
    expect(calls).toHaveLength(1);
  });

  it("takes what follows a request that runs for a withdrawal", async () => {
    await start();
    const caller = await client();
    caller.send(whole);
    expect(await caller.verdict()).toBe("A");
    caller.send(Buffer.from("more"));
    await aborted((await nextCall()).caller);
  });

  it("refuses what has to be done elsewhere, without a word in the log", async () => {
    await start({ accepts: ({ name }) => name !== "bridge" });
    const caller = await client();
    caller.send(whole);
    expect(await caller.verdict()).toBe("N");
    expect(calls).toEqual([]);
    expect(logged).toEqual([]);
  });

  it("refuses a caller of another user", async () => {
    await start({ allowedUids: [12345] });
    const caller = await client();
    caller.send(whole);
    expect(await caller.verdict()).toBe("N");
    expect(logged.join("")).toContain("refused a caller");
  });

  it("closes a connection that sends no whole request in time, and one that ends before", async () => {
    await start({ requestTimeoutMs: 50 });
    const slow = await client();
    slow.send(whole.subarray(0, -1));
    expect(await slow.verdict()).toBe("closed");
    const cut = await client();
    cut.send(whole.subarray(0, 30));
    await cut.closed();
    expect(calls).toEqual([]);
  });

  it.each([
    ["goes", (caller: RequestClient) => caller.socket.destroy()],
    ["closes its writing half", (caller: RequestClient) => caller.socket.end()],
  ])("withdraws the request of a caller that %s, with code 11", async (_, leave) => {
    await start();
    const caller = await client();
    caller.send(whole);
    const call = await nextCall();
    expect(call.caller.isWaiting()).toBe(true);
    leave(caller);
    const reason = await aborted(call.caller);
    expect(reason).toBeInstanceOf(CniError);
    expect(reason).toMatchObject({ code: ErrorCode.TryAgainLater });
    expect(call.caller.isWaiting()).toBe(false);
    call.answer(done);
    await server.close();
    expect(server.active).toBe(0);
  });

  it("sees that a caller has gone before the event loop tells it", async () => {
    await start();
    const caller = await client();
    caller.send(whole);
    expect(await caller.verdict()).toBe("A");
    const call = await nextCall();
    // Both ends are in this process: the descriptor is closed now, and no event was delivered.
    caller.socket.destroy();
    expect(call.caller.signal.aborted).toBe(false);
    expect(call.caller.isWaiting()).toBe(false);
    expect(call.caller.signal.aborted).toBe(true);
  });

  it("withdraws a request whose deadline has passed, in time to say so", async () => {
    await start();
    const caller = await client();
    caller.send(encodeRequest({ ...request, timeoutMs: 150 }));
    const call = await nextCall();
    call.answer(fail(await aborted(call.caller)));
    const outcome = await caller.outcome();
    expect(JSON.parse(outcome?.stdout ?? "")).toMatchObject({
      code: 11,
      msg: "Cannot go on: the caller's deadline of 150 ms has passed",
    });
  });

  it("does not take a deadline beyond what a timer takes for none", async () => {
    await start();
    const caller = await client();
    caller.send(encodeRequest({ ...request, timeoutMs: 0xffff_ffff }));
    const call = await nextCall();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(call.caller.signal.aborted).toBe(false);
  });

  it("when it closes, refuses what comes and delivers what runs", async () => {
    await start();
    const [running, late] = [await client(), await client()];
    running.send(whole);
    const call = await nextCall();
    const closed = server.close();
    late.send(whole);
    expect(await late.verdict()).toBe("N");
    const long = { ...done, stdout: "y".repeat(1_000_000) };
    call.answer(long);
    expect(await running.outcome()).toEqual(long);
    await closed;
    expect(readdirSync(directory)).toEqual([]);
  });
});

describe("endAfterFault()", () => {
  const fault = new Error("nobody caught this");

  it("answers the request that will never end, after the others have ended", async () => {
    await start();
    const [broken, sound] = [await client(), await client()];
    broken.send(whole);
    await nextCall();
    sound.send(whole);
    const call = await nextCall();
    const ended = endAfterFault(server, fault, () => 1);
    const late = RequestClient.open(path);
    await expect(late).rejects.toThrow();
    call.answer(done);
    expect(await sound.outcome()).toEqual(done);
    const outcome = await broken.outcome();
    expect(outcome?.exitCode).toBe(1);
    expect(JSON.parse(outcome?.stdout ?? "")).toMatchObject({ code: 999, msg: "nobody caught this" });
    await ended;
  });

  it("ends at once where nothing runs", async () => {
    await start();
    await endAfterFault(server, fault, () => 1);
    expect(server.active).toBe(0);
  });
});
