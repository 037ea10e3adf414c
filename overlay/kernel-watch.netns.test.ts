import { afterEach, beforeEach, expect, test } from "vitest";
import { NetworkNamespace } from "#kernel/namespace.ts";
import { Nftables } from "#nftables/nftables.ts";
import { applyOverlayRules } from "#nftables/overlay-rules.ts";
import { TestNamespace } from "#testing/test-namespace.ts";
import { KernelWatch } from "./kernel-watch.ts";

let host: TestNamespace;
let namespace: NetworkNamespace;
let nftables: Nftables;
let stranger: Nftables;
let watch: KernelWatch | undefined;

beforeEach(() => {
  host = TestNamespace.create("kernel-watch");
  namespace = NetworkNamespace.open(host.path);
  nftables = new Nftables({ namespacePath: host.path });
  stranger = new Nftables({ namespacePath: host.path });
});
afterEach(() => {
  watch?.close();
  nftables.close();
  stranger.close();
  namespace.close();
  host.remove();
});

/** A watch that hears nothing of what the stranger commits; until it says that the rules may be others. */
function untilRulesChange(): Promise<void> {
  return new Promise((resolve, reject) => {
    watch = new KernelWatch({
      namespace,
      nftables: {
        port: () => stranger.port(),
        generation: () => nftables.generation(),
        onCommit: (listener) => nftables.onCommit(listener),
      },
      isWanted: () => true,
      changed: () => undefined,
      rulesChanged: resolve,
      addressChanged: () => undefined,
      ended: reject,
    });
    watch.start();
  });
}

test("rules that go without a word of the kernel's are missed all the same", async () => {
  const rules = { udpPort: 4789, vteps: [], own: [], encryptors: [], tunnels: [] };
  expect(await applyOverlayRules(nftables, rules)).not.toEqual([]);
  const changed = untilRulesChange();
  expect(await applyOverlayRules(stranger, undefined)).not.toEqual([]);
  await changed;
});
