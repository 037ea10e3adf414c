import { expect, test } from "vitest";
import { BlockingCall } from "./blocking-call.ts";

const minuteMs = 60_000;

/** A clock that the test sets, and calls that take as long as it says. */
class Rig {
  nowMs = 0;
  readonly call = new BlockingCall(() => this.nowMs);

  async takes(milliseconds: number): Promise<string> {
    const inPlace = () => {
      this.nowMs += milliseconds;
      return "in place";
    };
    return await this.call.run(inPlace, () => Promise.resolve("on the pool"));
  }
}

test("a call is made in place while that is quick", async () => {
  const rig = new Rig();
  for (let count = 0; count < 5; count++) expect(await rig.takes(0.1)).toBe("in place");
});

test("after a slow call the next are made on the pool, for a minute, and for longer after another slow one", async () => {
  const rig = new Rig();
  expect(await rig.takes(20)).toBe("in place");
  expect(await rig.takes(0.1)).toBe("on the pool");
  rig.nowMs += minuteMs;
  expect(await rig.takes(20)).toBe("in place");
  rig.nowMs += minuteMs;
  expect(await rig.takes(0.1)).toBe("on the pool");
  rig.nowMs += minuteMs;
  expect(await rig.takes(0.1)).toBe("in place");
  expect(await rig.takes(0.1)).toBe("in place");
});

test("a call that fails is one as well", async () => {
  const rig = new Rig();
  const refuse = () => {
    rig.nowMs += 20;
    throw new Error("refused");
  };
  await expect(rig.call.run(refuse, () => Promise.resolve())).rejects.toThrow("refused");
  expect(await rig.takes(0.1)).toBe("on the pool");
});
