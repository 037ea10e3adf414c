import { statSync } from "node:fs";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLog } from "#machine/log.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import type { ResolverReport } from "./messages.ts";
import { ResolverThread } from "./thread.ts";

let namespace: TestNamespace;
let thread: ResolverThread;
beforeEach(() => {
  namespace = TestNamespace.create("thread");
  thread = new ResolverThread(silentLog);
});
afterEach(async () => {
  await thread.stop();
  namespace.remove();
});

test("takes no more memory the longer it looks after its containers", async () => {
  const { dev, ino } = statSync(namespace.path);
  const entry = {
    network: "net1",
    containerId: "c1",
    ifName: "eth0",
    netns: { path: namespace.path, dev, ino },
    names: ["web"],
    addresses: ["10.1.0.2/24"],
    port: 65053,
    isInternal: false,
    servers: [],
    createdAtMs: 1,
  };
  await thread.give({ op: "add", entry });
  const heapBytes = async () => ((await thread.give({ op: "list" })) as ResolverReport).heapBytes;
  const sweep = async () => {
    for (let round = 0; round < 100; round++)
      await Promise.all(Array.from({ length: 200 }, async () => await thread.give({ op: "sweep" })));
  };
  await sweep();
  const before = await heapBytes();
  await sweep();
  // As much as is left between two collections; a kilobyte for each look would be twenty million bytes.
  expect((await heapBytes()) - before).toBeLessThan(10_000_000);
  // Nor do attachments that come and go leave anything.
  for (let round = 0; round < 100; round++) {
    await thread.give({ op: "remove", key: entry });
    await thread.give({ op: "add", entry });
  }
  const { containers } = (await thread.give({ op: "list" })) as ResolverReport;
  expect(containers).toMatchObject([{ containerId: "c1", state: "listening" }]);
});
