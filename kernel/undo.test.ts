import { expect, test } from "vitest";
import { IncompleteUndoError, Undo } from "./undo.ts";

test("run() keeps what was done when nothing goes wrong", async () => {
  const undone: string[] = [];
  const value = await Undo.run(async (undo) => {
    undo.push("a", () => void undone.push("a"));
    return 7;
  });
  expect(value).toBe(7);
  expect(undone).toEqual([]);
});

test("run() takes everything back, newest first, and throws what was thrown", async () => {
  const undone: string[] = [];
  const cause = new Error("third step failed");
  const run = Undo.run(async (undo) => {
    undo.push("a", () => void undone.push("a"));
    undo.push("b", async () => {
      await Promise.resolve();
      undone.push("b");
    });
    throw cause;
  });
  await expect(run).rejects.toBe(cause);
  expect(undone).toEqual(["b", "a"]);
});

test("run() goes on after a reversal that fails, and names both what went wrong and what is left", async () => {
  const undone: string[] = [];
  let seen = -1;
  const run = Undo.run(async (undo) => {
    undo.push("the record", (failures) => {
      seen = failures.length;
    });
    undo.push("a", () => void undone.push("a"));
    undo.push("link veth0", () => {
      throw new Error("it is busy");
    });
    throw new Error("pool is exhausted");
  });
  const error = await run.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(IncompleteUndoError);
  expect((error as Error).message).toBe("pool is exhausted; Cannot take back link veth0: it is busy");
  expect(((error as Error).cause as Error).message).toBe("pool is exhausted");
  expect(undone).toEqual(["a"]);
  expect(seen).toBe(1);
});
