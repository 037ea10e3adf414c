import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import allowed from "#testing/allowed-skips.json" with { type: "json" };
import { callDbus, type DbusCall, DbusError } from "./dbus.ts";

const bus = { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus" };
const ask = (member: string, ...args: readonly string[]): DbusCall => ({
  ...bus,
  interface: "org.freedesktop.DBus",
  member,
  args,
});

const directory = mkdtempSync(join(tmpdir(), "netctl-dbus-"));
const socketPath = join(directory, "bus");
let daemon: ChildProcess | undefined;

function hasDaemon(): boolean {
  try {
    execFileSync("dbus-daemon", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

beforeAll(async () => {
  if (!hasDaemon()) return;
  const config = join(directory, "bus.conf");
  writeFileSync(
    config,
    `<busconfig><listen>unix:path=${socketPath}</listen><auth>EXTERNAL</auth><policy context="default">
     <allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>`,
  );
  const child = spawn("dbus-daemon", [`--config-file=${config}`, "--nofork", "--print-address"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  daemon = child;
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => reject(new Error("dbus-daemon has ended")));
    child.stdout.once("data", () => resolve());
  });
});

afterAll(() => {
  daemon?.kill("SIGKILL");
  rmSync(directory, { recursive: true });
});

/** Skipped only where testing/allowed-skips.json says that the program may be missing. */
function testWithDaemon(name: string, body: () => Promise<void>): void {
  if (hasDaemon() || !("dbus-daemon" in allowed)) test(name, body);
  else test.skip(`${name} [this machine lacks dbus-daemon]`, body);
}

describe("callDbus", () => {
  testWithDaemon("returns a list of texts, or one text", async () => {
    const names = await callDbus(socketPath, ask("ListNames"));
    expect(names).toContain("org.freedesktop.DBus");
    expect(names.length).toBeGreaterThanOrEqual(2);
    expect(await callDbus(socketPath, ask("GetNameOwner", "org.freedesktop.DBus"))).toEqual([
      "org.freedesktop.DBus",
    ]);
    expect((await callDbus(socketPath, ask("GetId")))[0]).toMatch(/^[0-9a-f]{32}$/u);
  });

  testWithDaemon("passes on texts of any length and alphabet", async () => {
    const name = `org.example.${"x".repeat(200)}`;
    const error = await callDbus(socketPath, ask("GetNameOwner", name)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(DbusError);
    expect(error).toMatchObject({ isRefusal: true, message: expect.stringContaining(name) as string });
  });

  testWithDaemon("tells a refusal by its name and text", async () => {
    const call = {
      ...ask("addSource", "trusted", "10.1.0.2/32"),
      destination: "org.fedoraproject.FirewallD1",
    };
    await expect(callDbus(socketPath, call)).rejects.toThrow(/ServiceUnknown: .*FirewallD1/u);
  });

  test("says where no bus is", async () => {
    const error = await callDbus("/nonexistent/bus", ask("ListNames")).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      isRefusal: false,
      message: expect.stringContaining("Cannot reach the bus at /nonexistent/bus") as string,
    });
  });

  test("gives up where nobody answers, and where what answers is no bus", async () => {
    const path = join(directory, "mute");
    const server = createServer((socket) => socket.on("error", () => undefined));
    await new Promise<void>((resolve) => void server.listen(path, resolve));
    await expect(callDbus(path, ask("ListNames"), { timeoutMs: 50 })).rejects.toThrow(
      /no answer within 50 ms/u,
    );
    server.removeAllListeners("connection").on("connection", (socket) => socket.end("HTTP/1.1 400\r\n"));
    await expect(callDbus(path, ask("ListNames"))).rejects.toThrow(/does not let this user in/u);
    server.close();
  });
});
