import { closeSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { runCommand, runTool } from "#conformance/command.ts";
import { expect } from "#conformance/failure.ts";
import type { PrintedError } from "#conformance/reply.ts";
import { followUps } from "./follow-up.ts";
import { attempt } from "./killed.ts";
import type { Mode, Scenario, ScenarioBench } from "./kit.ts";
import { type Container, World } from "./world.ts";

const alone = { NETCTL_STANDALONE: "1" };

export const starvedScenarios: readonly Scenario[] = [
  { name: "no inode left on the state's disk", run: (bench) => fewInodes(bench, "standalone") },
  { name: "no inode left on the state's disk, in netd", run: (bench) => fewInodes(bench, "netd") },
  { name: "the state's disk is full", run: (bench) => fullDisk(bench, "standalone") },
  { name: "the state's disk is full, in netd", run: (bench) => fullDisk(bench, "netd") },
  { name: "the state's disk is read-only", run: (bench) => readOnly(bench, "standalone") },
  { name: "the state's disk is read-only, in netd", run: (bench) => readOnly(bench, "netd") },
  { name: "no file may be opened any more", run: fewFiles },
  { name: "netd may open no more files", run: netdFewFiles },
];

/** An ADD that may succeed, or has to fail with one JSON object and nothing left. */
async function addOrNothing(
  world: World,
  container: Container,
  codes: readonly number[],
  openFiles?: number,
): Promise<boolean> {
  const reply = await world.call("ADD", container, openFiles === undefined ? {} : { openFiles });
  if (reply.succeeded) world.expectAttached(container, reply);
  else {
    const error = reply.expectError({ code: codes });
    if (openFiles !== undefined && isIncomplete(error)) return false;
  }
  await world.expectConsistent(container);
  return reply.succeeded;
}

/** Without a descriptor not all of it can be taken back: then it says so, and the DEL does it. */
function isIncomplete({ msg, details }: PrintedError): boolean {
  return `${msg} ${details}`.includes("Cannot take back");
}

async function remount(world: World, options: string): Promise<void> {
  await runTool("mount", ["-o", `remount,${options}`, world.stateDirectory]);
}

/** One inode more in each round, so that each file that is made is once the one that can't be. */
async function fewInodes(bench: ScenarioBench, mode: Mode): Promise<void> {
  const count = { successes: 0 };
  const step = bench.kit.isFull || mode === "netd" ? 1 : 3;
  for (let inodes = 2; count.successes < 2 && inodes < 60; inodes += step) {
    const stateMount = `size=1m,nr_inodes=${inodes}`;
    const world = await World.open(bench.kit, `${bench.label}-${inodes}`, { mode, stateMount });
    const reason = await attempt(async () => {
      const container = await world.container();
      if (await addOrNothing(world, container, [5])) count.successes++;
      await world.detach(container);
      await remount(world, "nr_inodes=1000");
      await followUps.ADD(world, container, {});
      await world.finish();
    });
    await world.close();
    bench.note(`${inodes} inodes`, "DEL, ADD", reason);
  }
  expect(count.successes > 0, "no ADD has succeeded");
}

/** One page more in each round. */
async function fullDisk(bench: ScenarioBench, mode: Mode): Promise<void> {
  const count = { successes: 0 };
  for (let free = 0; count.successes < 2 && free < 20; free++) {
    const label = `${bench.label}-${free}`;
    const world = await World.open(bench.kit, label, { mode, stateMount: "size=256k" });
    const reason = await attempt(async () => {
      const [early, late] = [await world.container(), await world.container()];
      await world.attach(early);
      fill(world, free);
      if (await addOrNothing(world, late, [5])) count.successes++;
      // What needs no room is done also where there is none.
      await world.detach(late);
      await world.detach(early);
      await world.expectConsistent(early);
      rmSync(`${world.stateDirectory}/filler`);
      await followUps.ADD(world, late, {});
      await world.finish();
    });
    await world.close();
    bench.note(`${free} pages free`, "DEL, ADD", reason);
  }
  expect(count.successes > 0, "no ADD has succeeded");
}

/** Leaves so many pages of 4 KiB. */
function fill(world: World, pages: number): void {
  const page = Buffer.alloc(4096);
  const fd = openSync(`${world.stateDirectory}/filler`, "w");
  const spare = Array.from({ length: pages }, (_, index) => `${world.stateDirectory}/spare${index}`);
  for (const file of spare) writeFileSync(file, page);
  try {
    for (;;) writeSync(fd, page);
  } catch {
    // ENOSPC
  }
  closeSync(fd);
  for (const file of spare) rmSync(file);
}

async function readOnly(bench: ScenarioBench, mode: Mode): Promise<void> {
  const world = await World.open(bench.kit, bench.label, {
    mode,
    stateMount: "size=1m",
    hasBystanders: true,
  });
  const step = async (fault: string, followUp: string, action: () => Promise<void>) =>
    bench.note(fault, followUp, await attempt(action));
  try {
    const [early, late] = [await world.container(), await world.container()];
    await world.attach(early);
    await remount(world, "ro");
    await step("read-only", "ADD", async () => {
      (await world.call("ADD", late)).expectError({ code: 5 });
      await world.expectConsistent(late);
    });
    await step("read-only", "GC", async () => {
      await world.collect();
      await world.expectConsistent(early);
    });
    await step("read-only", "DEL of what never was", () => world.detach(late));
    await step("read-only", "DEL", async () => {
      world.forget(early);
      (await world.call("DEL", early)).expectError({ code: 5 });
    });
    await remount(world, "rw");
    await step("writable again", "DEL", () => followUps.DEL(world, early, {}));
    await step("writable again", "ADD", () => followUps.ADD(world, late, {}));
    await world.finish();
  } finally {
    await remount(world, "rw");
    await world.close();
  }
}

/** One descriptor more in each round, beginning with what Node itself needs to start a program. */
async function fewFiles(bench: ScenarioBench): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "standalone", hasBystanders: true });
  try {
    const count = { successes: 0 };
    for (let files = await fewestFiles(); count.successes < 3 && files < 80; files++) {
      const reason = await attempt(async () => {
        const container = await world.container();
        if (await addOrNothing(world, container, [5, 11, 999], files)) count.successes++;
        const deleted = await world.call("DEL", container, { openFiles: files });
        if (!deleted.succeeded) deleted.expectError();
        await followUps.DEL(world, container, {});
        await container.namespace.remove();
      });
      bench.note(`${files} descriptors`, "DEL", reason);
    }
    expect(count.successes > 0, "no ADD has succeeded");
    await world.finish();
  } finally {
    await world.close();
  }
}

async function fewestFiles(): Promise<number> {
  for (let files = 8; ; files++) {
    const program = "require('node:fs').readFileSync('/proc/self/stat'); setTimeout(() => {}, 1)";
    const words = [`--nofile=${files}`, process.execPath, "-e", program];
    if ((await runCommand("prlimit", words)).exitCode === 0) return files;
  }
}

/** Some descriptors beyond what it has open when idle: callers that it can't serve go on by themselves. */
async function netdFewFiles(bench: ScenarioBench): Promise<void> {
  const world = await World.open(bench.kit, bench.label, { mode: "netd", hasBystanders: true });
  try {
    const idle = readdirSync(`/proc/${world.netd?.processId ?? "self"}/fd`).length;
    for (const spare of bench.kit.isFull ? [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24] : [1, 4, 8]) {
      const reason = await attempt(async () => {
        world.netd?.signal("SIGTERM");
        await world.netd?.ended();
        const netd = await world.startNetd({ openFiles: idle + spare });
        const containers = await Promise.all(Array.from({ length: 16 }, () => world.container()));
        await Promise.all(
          containers.map(async (container) => {
            const reply = await world.call("ADD", container);
            if (reply.succeeded) world.expectAttached(container, reply);
            else if (isIncomplete(reply.expectError())) await world.detach(container, { environment: alone });
          }),
        );
        await world.expectConsistent();
        expect(netd.isRunning, `netd has ended: ${netd.log.slice(-300)}`);
        // Those that failed as well: a DEL has to get through by some way.
        await Promise.all(
          containers.map(async (container) => {
            const reply = await world.call("DEL", container);
            world.forget(container);
            if (!reply.succeeded) {
              reply.expectError();
              await world.detach(container, { environment: alone });
            }
          }),
        );
        await world.expectConsistent();
        for (const { namespace } of containers) await namespace.remove();
      });
      bench.note(`${spare} descriptors to spare, 16 ADDs at once`, "DEL", reason);
    }
    await world.netd?.kill();
    await world.startNetd();
    await world.finish();
  } finally {
    await world.close();
  }
}
