import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Timers } from "./timers.ts";

test("what is due runs in the order of its time, once, and nothing that was cancelled", () => {
  const timer = fc.record({ at: fc.nat(1000), isCancelled: fc.boolean() });
  fc.assert(
    fc.property(fc.array(timer, { maxLength: 60 }), fc.nat(1000), (all, now) => {
      const timers = new Timers();
      const ran: number[] = [];
      for (const { at, isCancelled } of all) {
        const handle = timers.at(at, () => ran.push(at));
        if (isCancelled) handle.cancel();
      }
      timers.runDue(now, () => {});
      const due = all.filter(({ at, isCancelled }) => !isCancelled && at <= now).map(({ at }) => at);
      expect(ran).toEqual(due.sort((a, b) => a - b));
      const rest = all.filter(({ at, isCancelled }) => !isCancelled && at > now).map(({ at }) => at);
      expect(timers.nextMs).toBe(rest.length > 0 ? Math.min(...rest) : undefined);
    }),
  );
});

test("one that throws keeps none of the others from running", () => {
  const timers = new Timers();
  const told: unknown[] = [];
  let hasRun = false;
  timers.at(1, () => {
    throw new Error("no");
  });
  timers.at(2, () => (hasRun = true));
  timers.runDue(3, (error) => told.push(error));
  expect([hasRun, told.length]).toEqual([true, 1]);
});
