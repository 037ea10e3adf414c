import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { silentLog } from "#machine/log.ts";
import type { PluginHost } from "#plugins/context.ts";
import type { Repair } from "#suite/repair.ts";
import { Keeper } from "./keeper.ts";

const nothing: Repair = {
  tables: [],
  shared: [],
  attachments: [],
  failed: [],
  looked: 1,
  busy: [],
  unsettled: false,
};

let keeper: Keeper | undefined;
afterEach(() => keeper?.close());

/** A kernel that refuses the subscription. */
function hostWithout(state: { generation: number; hasTable: boolean }) {
  return {
    kernel: { namespace: { fd: -1 } },
    nftables: {
      port() {
        throw new Error("no such group");
      },
      generation: () => state.generation,
      onCommit: () => () => undefined,
      hasSkeleton: () => state.hasTable,
    },
    log: silentLog,
  } as unknown as PluginHost;
}

test("without notifications it looks when the number of the ruleset has changed, and else not", async () => {
  const state = { generation: 1, hasTable: true };
  let looks = 0;
  keeper = new Keeper({
    host: hostWithout(state),
    async repair() {
      looks += 1;
      return nothing;
    },
  });
  keeper.start();
  while (looks === 0) await sleep(5);
  for (let tick = 0; tick < 100; tick++) keeper.tick();
  await sleep(0);
  expect(looks).toBe(1);
  state.generation = 2;
  while (looks === 1) {
    keeper.tick();
    await sleep(5);
  }
  expect(looks).toBe(2);
});

test("a look that fails is repeated", async () => {
  let looks = 0;
  keeper = new Keeper({
    host: hostWithout({ generation: 1, hasTable: true }),
    async repair() {
      looks += 1;
      if (looks === 1) throw new Error("nft is missing");
      return nothing;
    },
  });
  keeper.start();
  while (looks < 2) await sleep(5);
});
