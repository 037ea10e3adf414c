import { expect, test } from "vitest";
import { BlockingCall } from "./blocking-call.ts";

/** Blocks as a slow system call does. */
function block(): string {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
  return "in place";
}

const onPool = () => Promise.resolve("on the pool");

test("a slow call is made on the pool from then on, and tried again in place some time later", async () => {
  const call = new BlockingCall();
  const made: string[] = [];
  for (let count = 0; count < 102; count++) made.push(await call.run(block, onPool));
  expect(made).toEqual(["in place", ...Array.from({ length: 100 }, () => "on the pool"), "in place"]);
});

test("fails as the call does, and counts how long that took", async () => {
  const call = new BlockingCall();
  const failing = () => {
    block();
    throw new Error("refused");
  };
  await expect(call.run(failing, onPool)).rejects.toThrow("refused");
  await expect(call.run(failing, onPool)).resolves.toBe("on the pool");
});
