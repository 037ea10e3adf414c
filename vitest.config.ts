import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["**/*.test.ts"],
    exclude: ["node_modules/**", "dist/**"],
    // A machine that is busy with eight times what it can do takes eight times as long.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    // The kernel tests share two cores and the kernel's RTNL lock: more workers only make them wait.
    maxWorkers: 2,
    // What is broken fails twice; a test that a busy machine has starved of packets does not. The report names it.
    retry: 1,
  },
});
