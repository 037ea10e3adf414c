import { expect, test } from "vitest";
import { BlockingCall } from "./blocking-call.ts";

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

test("slow calls take two per cent of the time at most, and a short one is soon forgotten", async () => {
  const rig = new Rig();
  for (const slowMs of [2, 2000, 20]) {
    expect(await rig.takes(slowMs)).toBe("in place");
    expect(await rig.takes(0.1)).toBe("on the pool");
    rig.nowMs += 49 * slowMs;
    expect(await rig.takes(0.1)).toBe("on the pool");
    rig.nowMs += slowMs;
    expect(await rig.takes(0.1)).toBe("in place");
  }
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
