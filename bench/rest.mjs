import { readFileSync } from "node:fs";

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function cpuTimes() {
  const [user, nice, system, idle, iowait, ...more] = /^cpu\s+(.*)$/m
    .exec(readFileSync("/proc/stat", "utf8"))[1]
    .split(" ")
    .map(Number);
  return {
    idle: idle + iowait,
    all: [user, nice, system, idle, iowait, ...more.slice(0, 3)].reduce((sum, value) => sum + value),
  };
}

/**
 * Waits until the processors have little to do: a thousand new containers keep the kernel busy for a while (their
 * first IPv6 packets go to every port of the bridge), and so do a thousand that were just removed. Gives up after
 * `limitMs`; the answer is the share of time the processors were busy in the last second.
 */
export async function rest(limitMs, signal) {
  const end = Date.now() + limitMs;
  if (limitMs === 0) return 0;
  for (;;) {
    const before = cpuTimes();
    await sleep(1000);
    const after = cpuTimes();
    const busy = 1 - (after.idle - before.idle) / Math.max(1, after.all - before.all);
    if (busy < 0.1 || Date.now() > end || signal.aborted) return busy;
  }
}
