import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["**/*.test.ts"],
    exclude: ["node_modules/**", "dist/**"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // The kernel tests share two cores and the kernel's RTNL lock: more workers only make them wait.
    maxWorkers: 2,
    // What is broken fails twice; a test that a busy machine has starved of packets does not. The report names it.
    retry: 1,
  },
});
