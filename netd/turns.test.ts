import { describe, expect, it } from "vitest";
import { type TurnKind, Turns } from "./turns.ts";

/** Runs requests whose work ends when the test says so, and notes what happened in which order. */
function stage() {
  const turns = new Turns();
  const log: string[] = [];
  const ends = new Map<string, () => void>();
  const ask = (name: string, kind: TurnKind, attachment?: string, network = "net") => {
    const request = {
      network,
      kind,
      cancel: () => log.push(`cancel ${name}`),
      ...(attachment === undefined ? {} : { attachment }),
    };
    return turns.take(request, async () => {
      log.push(`start ${name}`);
      await new Promise<void>((resolve) => ends.set(name, resolve));
      log.push(`end ${name}`);
    });
  };
  const end = async (name: string) => {
    ends.get(name)?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { turns, log, ask, end };
}

describe("Turns", () => {
  it("runs requests for different attachments at the same time", async () => {
    const { log, ask, end } = stage();
    const both = [ask("a", "ADD", "c1/eth0"), ask("b", "ADD", "c2/eth0")];
    await end("none");
    expect(log).toEqual(["start a", "start b"]);
    await end("b");
    await end("a");
    await Promise.all(both);
  });

  it("runs requests for one attachment one after the other", async () => {
    const { log, ask, end } = stage();
    const both = [ask("add", "ADD", "c1/eth0"), ask("check", "CHECK", "c1/eth0")];
    await end("none");
    expect(log).toEqual(["start add"]);
    await end("add");
    expect(log).toEqual(["start add", "end add", "start check"]);
    await end("check");
    await Promise.all(both);
  });

  it("lets a DEL cancel the ADD of its attachment, wait for it, and leave others alone", async () => {
    const { log, ask, end } = stage();
    const all = [ask("add", "ADD", "c1/eth0"), ask("other", "ADD", "c2/eth0")];
    await end("none");
    all.push(ask("del", "DEL", "c1/eth0"));
    await end("none");
    expect(log).toEqual(["start add", "start other", "cancel add"]);
    await end("add");
    expect(log.at(-1)).toBe("start del");
    await end("del");
    await end("other");
    await Promise.all(all);
  });

  it("runs a GC alone in its network, while other networks go on", async () => {
    const { log, ask, end, turns } = stage();
    const all = [
      ask("add", "ADD", "c1/eth0"),
      ask("gc", "GC"),
      ask("late", "ADD", "c2/eth0"),
      ask("far", "ADD", "c1/eth0", "net2"),
    ];
    await end("none");
    expect(log).toEqual(["start add", "start far"]);
    await end("add");
    expect(log.at(-1)).toBe("start gc");
    await end("gc");
    expect(log.at(-1)).toBe("start late");
    await end("late");
    await end("far");
    await Promise.all(all);
    expect(turns.size).toBe(0);
  });

  it("gives up waiting when it is told to, and lets those behind it go on", async () => {
    const { log, ask, end, turns } = stage();
    const all = [ask("add", "ADD", "c1/eth0")];
    const abort = new AbortController();
    const gc = turns.take(
      { network: "net", kind: "GC", cancel: () => undefined, signal: abort.signal },
      async () => void log.push("start gc"),
    );
    all.push(ask("other", "ADD", "c2/eth0"));
    await end("none");
    expect(log).toEqual(["start add"]);
    abort.abort(new Error("late"));
    await expect(gc).rejects.toThrow("late");
    expect(log).toEqual(["start add", "start other"]);
    await end("add");
    await end("other");
    await Promise.all(all);
    expect(turns.size).toBe(0);
    const never = { network: "net", attachment: "c1/eth0", kind: "ADD" as const, cancel: () => undefined };
    const dead = turns.take({ ...never, signal: AbortSignal.abort(new Error("gone")) }, () =>
      Promise.resolve(log.push("start never")),
    );
    await expect(dead).rejects.toThrow("gone");
    expect([log.includes("start never"), turns.size]).toEqual([false, 0]);
  });

  it("goes on after work that throws", async () => {
    const { turns } = stage();
    const request = { network: "net", attachment: "c1/eth0", kind: "ADD" as const, cancel: () => undefined };
    await expect(turns.take(request, () => Promise.reject(new Error("broken")))).rejects.toThrow("broken");
    await expect(turns.take(request, () => Promise.resolve(7))).resolves.toBe(7);
  });
});
