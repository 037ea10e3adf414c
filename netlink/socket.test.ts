import { describe, expect, test } from "vitest";
import { done, ScriptedKernel, type ScriptedMessage, verdict } from "#testing/scripted-kernel.ts";
import { Errno } from "./errno.ts";
import type { Message } from "./message.ts";
import { NetlinkSocket } from "./socket.ts";

const request = (op: string) => ({ op, type: 18, flags: 0, body: new Uint8Array(0) });
const entry = (byte: number, flags = 0): ScriptedMessage => ({ type: 16, flags, body: Uint8Array.of(byte) });
const firstBytes = (messages: readonly Message[]) => messages.map(({ body }) => body[0]);

function socketOf(answer: ConstructorParameters<typeof ScriptedKernel>[0]): [NetlinkSocket, ScriptedKernel] {
  const kernel = new ScriptedKernel(answer);
  return [new NetlinkSocket(kernel), kernel];
}

describe("NetlinkSocket.transact()", () => {
  test("gives each request the messages that are its own", () => {
    const [socket] = socketOf((_, index) => [entry(index * 10), entry(index * 10 + 1), verdict(0)]);
    expect(socket.transact([request("a"), request("b")]).map(firstBytes)).toEqual([
      [0, 1],
      [10, 11],
    ]);
  });

  test("ignores what belongs to another request, another socket or nobody", () => {
    const [socket] = socketOf(({ sequence }) => [
      { ...entry(1), sequence: sequence - 1 },
      { ...entry(2), port: 1 },
      { ...entry(3), sequence: 0 },
      { ...verdict(Errno.EIO), sequence: sequence + 100 },
      entry(4),
      verdict(0),
    ]);
    expect(socket.transact([request("a")]).map(firstBytes)).toEqual([[4]]);
  });

  test("says which request failed, and which were done all the same", () => {
    const [socket] = socketOf((_, index) => [verdict(index === 1 ? Errno.EBUSY : 0)]);
    expect(() => socket.transact([request("make a"), request("make b"), request("make c")])).toThrow(
      expect.objectContaining({
        message: "Cannot make b: in use (EBUSY)",
        errno: Errno.EBUSY,
        op: "make b",
        index: 1,
        succeeded: [0, 2],
      }),
    );
    const outcomes = socket.attempt([request("make a")]);
    expect(outcomes).toEqual([{ messages: [] }]);
  });

  test("does not take silence for success, but blames the request that was refused", () => {
    const [socket] = socketOf((_, index) => (index === 1 ? [verdict(Errno.ERESTART)] : []));
    expect(() => socket.transact([request("a"), request("b")])).toThrow(
      expect.objectContaining({ op: "b", errno: Errno.ERESTART }),
    );
    expect(() => socket.transact([request("a")])).toThrow("Cannot a: the kernel gave no answer (ECANCELED)");
  });

  test("expects no answer where none was asked for, but takes a refusal", () => {
    const [socket, kernel] = socketOf((_, index) => (index < 1 ? [] : [verdict(Errno.EPERM)]));
    const silent = { ...request("begin"), acknowledge: false };
    expect(socket.transact([silent])).toEqual([[]]);
    expect((kernel.requests[0]?.flags ?? 0) & 4).toBe(0);
    expect(() => socket.transact([silent])).toThrow("Cannot begin: operation not permitted (EPERM)");
  });

  test("asks for acknowledgements with fresh sequence numbers and its own port", () => {
    const [socket, kernel] = socketOf(() => [verdict(0)]);
    socket.transact([request("a"), request("b")]);
    socket.transact([request("c")]);
    expect(kernel.requests.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    expect(kernel.requests.every(({ flags, port }) => (flags & 5) === 5 && port === kernel.port)).toBe(true);
  });

  test("sends nothing for nothing", () => {
    const [socket, kernel] = socketOf(() => [verdict(0)]);
    expect(socket.transact([])).toEqual([]);
    expect(kernel.requests).toEqual([]);
  });
});

describe("NetlinkSocket.transactAsync()", () => {
  test("answers as transact() does", async () => {
    const [socket] = socketOf((_, index) => [entry(index), verdict(index === 1 ? Errno.ENODEV : 0)]);
    expect((await socket.transactAsync([request("a")])).map(firstBytes)).toEqual([[0]]);
    await expect(socket.transactAsync([request("b")])).rejects.toMatchObject({
      errno: Errno.ENODEV,
      op: "b",
    });
  });

  test("keeps the socket to itself until it settles, and close() waits for it", async () => {
    const [socket, kernel] = socketOf(() => [verdict(0)]);
    const pending = socket.transactAsync([request("a")]);
    expect(() => socket.transact([request("b")])).toThrow("while an asynchronous call is under way");
    socket.close();
    socket.close();
    expect(kernel.closed).toBe(0);
    await pending;
    expect(kernel.closed).toBe(1);
    expect(() => socket.transact([request("b")])).toThrow("was closed");
  });
});

describe("NetlinkSocket.dump()", () => {
  test("collects all parts up to the end", () => {
    const [socket, kernel] = socketOf(() => [entry(1, 2), entry(2, 2), done()]);
    expect(firstBytes(socket.dump(request("read")))).toEqual([1, 2]);
    expect((kernel.requests[0]?.flags ?? 0) & 0x304).toBe(0x300);
  });

  test("reads again where the table changed meanwhile, whichever part says so", () => {
    const interrupted = 0x10;
    for (const part of [
      [entry(1, interrupted), done()],
      [entry(1), done(0, interrupted)],
    ]) {
      const [socket] = socketOf((_, index) => (index < 3 ? part : [entry(7), done()]));
      expect(firstBytes(socket.dump(request("read")))).toEqual([7]);
    }
  });

  test("reads again where the end is missing", () => {
    const [socket] = socketOf((_, index) => (index === 0 ? [entry(1)] : [entry(1), entry(2), done()]));
    expect(firstBytes(socket.dump(request("read")))).toEqual([1, 2]);
  });

  test("gives up on a table that never stands still", () => {
    const [socket, kernel] = socketOf(() => [done(0, 0x10)]);
    expect(() => socket.dump(request("read links"))).toThrow(
      "Cannot read links: the table kept changing (EINTR)",
    );
    expect(kernel.requests.length).toBeGreaterThan(5);
  });

  test("throws the kernel's refusal, at the start or at the end", () => {
    for (const refusal of [verdict(Errno.EOPNOTSUPP), done(Errno.EOPNOTSUPP)]) {
      const [socket] = socketOf(() => [refusal]);
      expect(() => socket.dump(request("read"))).toThrow(
        expect.objectContaining({ errno: Errno.EOPNOTSUPP }),
      );
    }
  });
});
