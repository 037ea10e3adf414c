import { expect } from "#conformance/failure.ts";
import type { CallOptions, Container, World } from "./world.ts";

/**
 * What happens after a fault: the runtime deletes, tries again, or collects; or netd is started again. Each demands
 * that afterwards journal, leases, kernel and nftables agree, and at last that nothing is left of the container.
 */
export const followUps = {
  async DEL(world: World, container: Container, options: CallOptions): Promise<void> {
    await world.detach(container, options);
    await world.expectConsistent(container);
    // As every runtime does it: once more, and without the namespace.
    await world.detach(container, { ...options, netns: "" });
    await world.expectConsistent(container);
  },

  async ADD(world: World, container: Container, options: CallOptions): Promise<void> {
    await world.attach(container, options);
    await world.expectConsistent(container);
    await world.expectWorking(container);
    await followUps.DEL(world, container, options);
  },

  /** The runtime has forgotten the container, and its namespace is gone. */
  async "DEL without namespace"(world: World, container: Container, options: CallOptions): Promise<void> {
    await container.namespace.remove();
    await world.detach(container, { ...options, netns: "" });
    await world.expectConsistent();
  },

  async GC(world: World, container: Container, options: CallOptions): Promise<void> {
    world.forget(container);
    await world.collect(options);
    await world.expectConsistent(container);
  },
} as const;

export type FollowUp = keyof typeof followUps;

export const allFollowUps = Object.keys(followUps) as readonly FollowUp[];

/** netd is started again: before it serves, nothing is left of an ADD or a DEL that did not end. */
export async function restart(world: World, container: Container): Promise<void> {
  expect(world.netd?.isRunning !== true, "netd runs on");
  const netd = world.spawnNetd();
  await netd.ready();
  await world.expectServed();
  const state = await world.state();
  const own = (lines: readonly string[]) => lines.filter((line) => line.split(" ").includes(container.id));
  const records = own(state.records);
  const isWhole = records.every((line) => line.endsWith(" done"));
  expect(isWhole, `netd serves and has left ${records.join()}`);
  if (records.length === 0) {
    expect(own(state.leases).length === 0, `netd serves and has left ${own(state.leases).join()}`);
    world.forget(container);
    await world.expectConsistent(container);
  } else if (records.length === world.plugins.length && world.recall(container)) {
    await world.expectConsistent(container);
  }
  await followUps.ADD(world, container, {});
}
