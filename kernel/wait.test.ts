import { expect, test } from "vitest";
import { WaitTimeoutError, waitUntil } from "./wait.ts";

test("waitUntil() looks once where there is something at once", async () => {
  let looks = 0;
  expect(await waitUntil("a value", () => ++looks, { timeoutMs: 1000 })).toBe(1);
  expect(looks).toBe(1);
});

test("waitUntil() looks again until there is something", async () => {
  let looks = 0;
  expect(await waitUntil("a value", () => (++looks === 4 ? "found" : undefined), { timeoutMs: 10_000 })).toBe(
    "found",
  );
});

test("waitUntil() says what it waited for in vain", async () => {
  const wait = waitUntil("port veth0 to come up", () => undefined, { timeoutMs: 5 });
  await expect(wait).rejects.toThrow(new WaitTimeoutError("port veth0 to come up", 5));
});

test("waitUntil() does not give up over a single look that takes long", async () => {
  let looks = 0;
  const slow = () => {
    for (const until = performance.now() + 10; performance.now() < until; );
    return ++looks === 3 ? "found" : undefined;
  };
  expect(await waitUntil("it", slow, { timeoutMs: 5 })).toBe("found");
});

test("waitUntil() passes on what looking throws, and ends when the caller has gone", async () => {
  const failing = () => {
    throw new Error("the port is gone");
  };
  await expect(waitUntil("it", failing, { timeoutMs: 1000 })).rejects.toThrow("the port is gone");
  const signal = AbortSignal.abort();
  await expect(waitUntil("it", () => undefined, { timeoutMs: 60_000, signal })).rejects.toThrow(/abort/);
});
