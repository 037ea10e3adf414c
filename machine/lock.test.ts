import { mkdtempSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bundleChild } from "#testing/bundled-child.ts";
import { LockTimeoutError, withFileLock } from "./lock.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "netctl-lock-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const timeoutMs = 20_000;

/** A promise with its resolver. */
function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

describe("withFileLock()", () => {
  test("runs one at a time, and returns what the action returns", async () => {
    const path = join(directory, "new/dir/lock");
    let inside = 0;
    const run = (value: number) =>
      withFileLock(
        path,
        async () => {
          expect(++inside).toBe(1);
          await new Promise((resolve) => setImmediate(resolve));
          inside--;
          return value;
        },
        { timeoutMs },
      );
    expect(await Promise.all([1, 2, 3, 4, 5].map((value) => run(value)))).toEqual([1, 2, 3, 4, 5]);
  });

  test("lets several share it, but nobody beside the one who does not", async () => {
    const path = join(directory, "lock");
    const held = gate();
    const both = gate();
    let sharing = 0;
    const share = () =>
      withFileLock(
        path,
        async () => {
          if (++sharing === 2) both.open();
          await held.opened;
        },
        { timeoutMs, shared: true },
      );
    const sharers = [share(), share()];
    await both.opened;
    await expect(withFileLock(path, () => {}, { timeoutMs: 0 })).rejects.toBeInstanceOf(LockTimeoutError);
    held.open();
    await Promise.all(sharers);
    await withFileLock(path, () => {}, { timeoutMs: 0 });
  });

  test("is free again after an error, and says who waits too long where", async () => {
    const path = join(directory, "lock");
    const fail = () => {
      throw new Error("no");
    };
    await expect(withFileLock(path, fail, { timeoutMs })).rejects.toThrow("no");
    await withFileLock(
      path,
      async () => {
        const message = `Cannot lock ${JSON.stringify(path)}: held by somebody else for more than 5 ms`;
        await expect(withFileLock(path, () => {}, { timeoutMs: 5 })).rejects.toThrow(message);
        const signal = AbortSignal.abort();
        await expect(withFileLock(path, () => {}, { timeoutMs, signal })).rejects.toThrow("aborted");
      },
      { timeoutMs },
    );
  });

  test("does not hold a file that was removed while it waited", async () => {
    const path = join(directory, "lock");
    const held = gate();
    const entered = gate();
    const first = withFileLock(path, () => (entered.open(), held.opened), { timeoutMs });
    await entered.opened;
    const second = withFileLock(
      path,
      async () => {
        await expect(withFileLock(path, () => {}, { timeoutMs: 0 })).rejects.toBeInstanceOf(LockTimeoutError);
      },
      { timeoutMs },
    );
    unlinkSync(path);
    held.open();
    await Promise.all([first, second]);
  });

  test("is free again when its holder is killed", async () => {
    const path = join(directory, "lock");
    const child = await bundleChild(`
      import { withFileLock } from "#machine/lock.ts";
      void withFileLock(process.argv[2], () => { process.stdout.write("locked"); return new Promise((resolve) => setTimeout(resolve, 600_000)); }, { timeoutMs: 1000 });
    `);
    try {
      const holder = child.start(path);
      await new Promise((resolve) => holder.stdout?.once("data", resolve));
      await expect(withFileLock(path, () => {}, { timeoutMs: 0 })).rejects.toBeInstanceOf(LockTimeoutError);
      holder.kill("SIGKILL");
      await withFileLock(path, () => {}, { timeoutMs });
    } finally {
      child.remove();
    }
  });
});
