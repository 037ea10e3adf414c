import { execFileSync, spawnSync } from "node:child_process";
import {
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ownLocality } from "#netd/locality.ts";
import { type Request, refused } from "#netd/protocol.ts";
import { answer, compileLauncher, LauncherRig } from "#testing/launcher-rig.ts";

let built: string;
let rig: LauncherRig;
beforeAll(() => {
  built = mkdtempSync(join(tmpdir(), "netctl-launcher-built-"));
  compileLauncher(built);
});
afterAll(() => rmSync(built, { recursive: true }));
beforeEach(() => {
  rig = new LauncherRig(join(built, "launcher"));
});
afterEach(async () => {
  await rig.remove();
});

const accepted = Buffer.from("A");
const done = { exitCode: 0, stdout: '{"cniVersion":"1.1.0"}', stderr: "note\n" };
const json = (text: string) => JSON.parse(text) as { code: number; msg: string };

/** netd as it should be. */
async function serveWell(seen: Request[] = []): Promise<readonly Request[]> {
  await rig.serve((socket, request) => {
    seen.push(request);
    socket.write(accepted);
    socket.end(answer(done));
  });
  return seen;
}

describe("with netd", () => {
  test("it hands over name, environment, stdin and where it is, and prints the answer", async () => {
    const seen = await serveWell();
    const ended = await rig.call({ stdin: '{"a":1}', environment: { CNI_ARGS: "A=b", NODE_OPTIONS: "x" } });
    expect(ended).toEqual({ exitCode: 0, signal: null, stdout: done.stdout, stderr: done.stderr });
    const [request] = seen;
    expect(request).toMatchObject({ name: "bridge", stdin: '{"a":1}', locality: ownLocality() });
    expect(request?.timeoutMs).toBe(60_000);
    expect(request?.environment).toMatchObject({ CNI_COMMAND: "ADD", CNI_ARGS: "A=b" });
    expect(request?.environment).not.toHaveProperty("NODE_OPTIONS");
  });

  test("it exits with the code of the answer", async () => {
    await rig.serve((socket) => socket.end(Buffer.concat([accepted, answer({ ...done, exitCode: 1 })])));
    expect(await rig.call()).toMatchObject({ exitCode: 1, stdout: done.stdout });
  });

  test("it takes an answer that comes byte by byte, and one of the largest size", async () => {
    await rig.serve((socket, { stdin }) => {
      if (stdin === "long") {
        socket.end(Buffer.concat([accepted, answer({ ...done, stdout: "x".repeat(2 ** 22 - 5) })]));
        return;
      }
      void (async () => {
        for (const byte of Buffer.concat([accepted, answer(done)])) {
          socket.write(Buffer.of(byte));
          await new Promise((resolve) => setImmediate(resolve));
        }
      })();
    });
    expect(await rig.call()).toMatchObject({ exitCode: 0, stdout: done.stdout });
    expect((await rig.call({ stdin: "long" })).stdout).toHaveLength(2 ** 22 - 5);
  });

  test("it hands over the largest stdin, and refuses a larger one", async () => {
    const seen = await serveWell();
    const largest = "x".repeat(2 ** 22 - 1);
    expect(await rig.call({ stdin: largest })).toMatchObject({ exitCode: 0 });
    expect(seen[0]?.stdin === largest).toBe(true);
    const { exitCode, stdout } = await rig.call({ stdin: `${largest}xy` });
    expect(exitCode).toBe(1);
    expect(json(stdout)).toMatchObject({
      code: 6,
      msg: "Cannot read the network configuration: stdin is longer than 4 MiB",
    });
  });

  test("it reads a stdin that comes in pieces and does not block", async () => {
    const seen = await serveWell();
    // A socket pair instead of a pipe: Node makes it non-blocking on both sides.
    const child = rig.start({}, ["overlapped", "pipe", "ignore"]);
    const exit = new Promise((resolve) => child.once("exit", resolve));
    for (const piece of ['{"a"', ":", "1}"]) {
      child.stdin?.write(piece);
      await sleep(20);
    }
    child.stdin?.end();
    expect(await exit).toBe(0);
    expect(seen[0]?.stdin).toBe('{"a":1}');
  });

  test.each([
    ["stdin", "<&-"],
    ["stdout", ">&-"],
    ["stderr", "2>&-"],
    ["all three", "<&- >&- 2>&-"],
  ])("it takes no descriptor of its own for %s that the caller closed", async (_, redirections) => {
    const seen = await serveWell();
    const command = ["sh", "-c", `exec "$0" ${redirections}`, rig.bin("bridge")];
    const ended = await rig.call({ stdin: "" }, command);
    expect(ended).toMatchObject({
      exitCode: 0,
      stdout: redirections.includes(">&- ") || redirections === ">&-" ? "" : done.stdout,
    });
    expect(seen).toHaveLength(1);
    expect(seen[0]?.stdin).toBe("");
  });

  test("it ends with an error, not by a signal, where nobody reads the result", async () => {
    await serveWell();
    const script = '{ "$0"; echo "code $?" >&2; } | true';
    const { stderr } = await rig.call({ stdin: "{}" }, ["bash", "-c", script, rig.bin("bridge")]);
    expect(stderr).toMatch(/code [01]\n/);
  });

  test("a timeout that is no number is the default", async () => {
    const seen = await serveWell();
    for (const NETCTL_TIMEOUT_MS of ["5s", "-1", "", "0", "99999999999999999999", "1500"])
      await rig.call({ environment: { NETCTL_TIMEOUT_MS } });
    expect(seen.map(({ timeoutMs }) => timeoutMs)).toEqual([60_000, 60_000, 60_000, 60_000, 10 ** 9, 1500]);
  });
});

describe("where netd does not do it, it becomes the standalone program, with all of stdin, if netd", () => {
  test.each<[string, (socket: Socket) => void]>([
    ["refuses", (socket) => socket.end(refused)],
    ["says what nobody understands", (socket) => socket.end("HTTP/1.1 400 Bad Request\r\n")],
    ["hangs up", (socket) => socket.destroy()],
    ["dies after it has accepted", (socket) => socket.end(accepted)],
    ["dies in the middle of the header", (socket) => socket.end(Buffer.concat([accepted, Buffer.alloc(5)]))],
    [
      "dies in the middle of the answer",
      (socket) => socket.end(Buffer.concat([accepted, answer(done, [999, 0])])),
    ],
  ])("%s", async (_, react) => {
    await rig.serve((socket) => react(socket));
    expect(await rig.standalone({ stdin: '{"a":1}' })).toMatchObject({
      program: "standalone",
      argv: ["bridge"],
      stdin: '{"a":1}',
    });
  });

  test("does not answer within a second", async () => {
    let closed = false;
    await rig.listen((socket) => {
      socket.resume();
      socket.on("end", () => {
        closed = true;
        socket.end();
      });
    });
    expect(await rig.standalone({ stdin: "y" })).toMatchObject({ stdin: "y" });
    expect(closed).toBe(true);
  });

  test("does not even take a large request within a second", async () => {
    await rig.listen((socket) => socket.pause());
    expect(await rig.standalone({ stdin: "x".repeat(2 ** 21) })).toMatchObject({ stdin: 2 ** 21 });
  });

  test("accepts a STATUS and then hangs: it changes nothing", async () => {
    await rig.serve((socket) => socket.write(accepted));
    expect(await rig.standalone({ environment: { CNI_COMMAND: "STATUS" } })).toMatchObject({
      program: "standalone",
    });
  });
});

test("where netd accepts and then hangs, the caller hears code 11 at its deadline", async () => {
  await rig.serve((socket) => socket.write(accepted));
  const { exitCode, stdout } = await rig.call({ environment: { NETCTL_TIMEOUT_MS: "300" } });
  expect(exitCode).toBe(1);
  expect(json(stdout)).toMatchObject({ code: 11 });
});

test.each([
  [2 ** 22, 1],
  [0xffff_ffff, 0xffff_ffff],
  [0, 2 ** 31],
])("an answer that announces %i and %i bytes is an error", async (stdout, stderr) => {
  await rig.serve((socket) => socket.end(Buffer.concat([accepted, answer(done, [stdout, stderr])])));
  const ended = await rig.call();
  expect(ended.exitCode).toBe(1);
  expect(json(ended.stdout)).toMatchObject({
    code: 999,
    msg: "Cannot use netd's answer: it is longer than 4 MiB",
  });
});

describe("without netd", () => {
  test.each<[string, () => void]>([
    ["there is no socket", () => {}],
    ["there is no run directory", () => rmSync(rig.run, { recursive: true })],
    ["the run directory is a file", () => (rmSync(rig.run, { recursive: true }), writeFileSync(rig.run, ""))],
    ["a directory is in the socket's place", () => mkdirSync(rig.socketPath)],
    ["a file is in the socket's place", () => writeFileSync(rig.socketPath, "")],
    ["a dead link is in the socket's place", () => symlinkSync("/nowhere", rig.socketPath)],
  ])("it goes on where %s", async (_, spoil) => {
    spoil();
    expect(await rig.standalone()).toMatchObject({ program: "standalone", stdin: "{}" });
  });

  test("it tells nothing to a socket of another user", async () => {
    let heard = "";
    await rig.listen((socket) => socket.on("data", (piece: Buffer) => (heard += piece.toString())));
    chownSync(rig.socketPath, 12345, 12345);
    await rig.standalone();
    expect(heard).toBe("");
  });

  test("it tells nothing to a listener of another user, whoever the file belongs to", async () => {
    const script = `process.setgid(12345); process.setuid(12345);
      require("net").createServer((s) => s.on("data", () => console.log("heard"))).listen(process.argv[1], () => console.log("ready"))`;
    execFileSync("chmod", ["777", rig.directory, rig.run]);
    const stranger = rig.start(
      { args: ["-e", script, rig.socketPath] },
      ["ignore", "pipe", "inherit"],
      [process.execPath],
    );
    let heard = "";
    await new Promise<void>((resolve) =>
      stranger.stdout?.on("data", (piece: Buffer) => {
        heard += piece.toString();
        resolve();
      }),
    );
    chownSync(rig.socketPath, 0, 0);
    await rig.standalone();
    stranger.kill();
    expect(heard).toBe("ready\n");
  });

  test("it goes on without /proc, and where its path is longer than a socket's can be", async () => {
    const script = 'mount -t tmpfs none /proc && exec "$0"';
    const ended = await rig.call({ environment: { NETCTL_LIB_DIR: `${rig.directory}/lib` } }, [
      "unshare",
      "-m",
      "sh",
      "-c",
      script,
      rig.bin("bridge"),
    ]);
    // The stand-in itself looks into /proc: that it was started is what counts.
    expect(ended.stderr).toContain("standalone.cjs");
    const long = `${rig.directory}/${"x".repeat(200)}`;
    expect(await rig.standalone({ environment: { NETCTL_RUN_DIR: long } })).toMatchObject({ stdin: "{}" });
  });

  test("it passes an environment of any size on, which netd is not asked to take", async () => {
    await rig.serve((socket) => socket.end(Buffer.concat([accepted, answer(done)])));
    const many = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`V${i}`, "x".repeat(100)]));
    const { environment } = await rig.standalone({ environment: { ...many, NODE_PATH: "x" } });
    expect(environment).toMatchObject(many);
    expect(environment).not.toHaveProperty("NODE_PATH");
  });

  test("it does not ask netd with NETCTL_STANDALONE=1, or without a verb", async () => {
    const seen = await serveWell();
    await rig.standalone({ environment: { NETCTL_STANDALONE: "1" } });
    await rig.standalone({ environment: { CNI_COMMAND: "" } });
    expect(seen).toEqual([]);
  });

  test("it says what is missing", async () => {
    rmSync(`${rig.directory}/lib`, { recursive: true });
    const environment = { NETCTL_LIB_DIR: "/nowhere" };
    const plugin = await rig.call({ environment });
    expect(plugin.exitCode).toBe(1);
    expect(json(plugin.stdout).msg).toContain("Cannot find standalone.cjs");
    expect(await rig.call({ environment, name: "netctl" })).toMatchObject({
      exitCode: 1,
      stderr: "netctl: cannot find netctl.cjs; set NETCTL_LIB_DIR\n",
    });
  });
});

test("VERSION is answered without reading stdin, by the launcher alone", async () => {
  const child = rig.start({ environment: { CNI_COMMAND: "VERSION" } }, ["pipe", "pipe", "inherit"]);
  let stdout = "";
  child.stdout?.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  expect(await new Promise((resolve) => child.once("close", resolve))).toBe(0);
  expect(JSON.parse(stdout)).toEqual({
    cniVersion: "1.1.0",
    supportedVersions: ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
  });
});

test("as netctl it becomes netctl, with every argument", async () => {
  const args = Array.from({ length: 5000 }, (_, i) => `argument ${i}`);
  const { argv, program } = await rig.standalone({ name: "netctl", args });
  expect({ argv, program }).toEqual({ argv: args, program: "netctl" });
});

describe("starting netd", () => {
  const onDemand = { NETCTL_NETD: "" };
  interface Report {
    readonly pid: number;
    readonly cwd: string;
    readonly environment: Readonly<Record<string, string>>;
    readonly stdio: readonly string[];
    readonly lock: string;
    readonly session: string;
  }

  /** What the netds that were started say of themselves, once there are `count`. */
  async function reports(count: number): Promise<readonly Report[]> {
    for (;;) {
      const text = existsSync(rig.netdReports) ? readFileSync(rig.netdReports, "utf8") : "";
      const lines = text.split("\n").filter(Boolean);
      if (lines.length >= count) return lines.map((line) => JSON.parse(line) as Report);
      await sleep(5);
    }
  }

  /** Until the one that was started has ended. */
  async function unlocked(): Promise<void> {
    for (;;) {
      try {
        execFileSync("flock", ["--nonblock", rig.lockPath, "true"]);
        return;
      } catch {
        await sleep(5);
      }
    }
  }

  test("it is a session of its own, without the caller's streams, directory and environment", async () => {
    await rig.call({
      environment: {
        ...onDemand,
        SECRET: "x",
        NETCTL_NETD_LOCK_FD: "77",
        NETCTL_STATE_DIR: "/s",
        CNI_ARGS: "x",
      },
    });
    const [report] = await reports(1);
    expect(report).toMatchObject({
      cwd: "/",
      stdio: ["/dev/null", "/dev/null", "/dev/null"],
      lock: rig.lockPath,
    });
    expect(report?.session).not.toBe(readFileSync("/proc/self/stat", "utf8").split(") ")[1]?.split(" ")[3]);
    expect(report?.environment).toEqual({
      PATH: process.env["PATH"],
      NETCTL_NETD: "",
      NETCTL_RUN_DIR: rig.run,
      NETCTL_STATE_DIR: "/s",
      NETCTL_TEST_NETD: rig.netdReports,
      NETCTL_NETD_LOCK_FD: "3",
      NETCTL_IDLE_EXIT_SECONDS: "600",
    });
  });

  test("nobody who reads the launcher's output to its end waits for it", async () => {
    const linger = { ...onDemand, NETCTL_TEST_LINGER: "30000" };
    // `call` settles on "close": when nobody has the pipes open any more.
    await rig.call({ environment: linger });
    const [report] = await reports(1);
    process.kill(report?.pid ?? 0, 0);
    process.kill(report?.pid ?? 0);
  });

  test("of thirty first calls at once one starts it", async () => {
    const linger = { ...onDemand, NETCTL_TEST_LINGER: "30000" };
    const calls = Array.from({ length: 30 }, () => rig.standalone({ environment: linger }));
    expect(await Promise.all(calls)).toHaveLength(30);
    const all = await reports(1);
    expect(all).toHaveLength(1);
    process.kill(all[0]?.pid ?? 0);
  });

  test("one that did not come up is not started again at once, and later it is", async () => {
    await rig.call({ environment: onDemand });
    await reports(1);
    await unlocked();
    expect(readFileSync(rig.lockPath, "utf8")).toBe("starting\n");
    await rig.call({ environment: onDemand });
    await unlocked();
    expect(await reports(1)).toHaveLength(1);
    const before = new Date(Date.now() - 11_000);
    utimesSync(rig.lockPath, before, before);
    await rig.call({ environment: onDemand });
    expect(await reports(2)).toHaveLength(2);
  });

  test("one that had come up is started again at once", async () => {
    await rig.call({ environment: onDemand });
    await reports(1);
    await unlocked();
    truncateSync(rig.lockPath);
    writeFileSync(rig.lockPath, "42\n");
    await rig.call({ environment: onDemand });
    expect(await reports(2)).toHaveLength(2);
  });

  test.each<[string, () => void]>([
    ["a link", () => symlinkSync("/etc/hostname", rig.lockPath)],
    ["a directory", () => mkdirSync(rig.lockPath)],
    [
      "of another user",
      () => {
        writeFileSync(rig.lockPath, "");
        chownSync(rig.lockPath, 12345, 12345);
      },
    ],
  ])("nothing is started where the lock is %s", async (_, spoil) => {
    const hostname = readFileSync("/etc/hostname", "utf8");
    spoil();
    expect(await rig.standalone({ environment: onDemand })).toMatchObject({ program: "standalone" });
    expect(existsSync(rig.netdReports)).toBe(false);
    expect(readFileSync("/etc/hostname", "utf8")).toBe(hostname);
  });

  test("it makes the run directory, for its owner alone", async () => {
    rmSync(rig.run, { recursive: true });
    await rig.call({ environment: onDemand });
    await reports(1);
    expect(execFileSync("stat", ["-c", "%a", rig.run], { encoding: "utf8" })).toBe("700\n");
  });
});

describe("for aarch64", () => {
  const compiler = "aarch64-linux-gnu-gcc";
  const lacking = ["aarch64-linux-gnu-gcc", "qemu-aarch64-static"].filter((program) => {
    return spawnSync("which", [program]).status !== 0;
  });

  test.skipIf(lacking.length > 0)(
    `it compiles, and speaks as on this machine${lacking.length > 0 ? ` [lacking: ${lacking.join(", ")}]` : ""}`,
    async () => {
      const seen = await serveWell();
      compileLauncher(join(rig.directory, "lib"), { compiler });
      copyFileSync(join(rig.directory, "lib/launcher"), rig.bin("bridge"));
      const emulator = ["qemu-aarch64-static", "-0", "bridge", rig.bin("bridge")];
      const ended = await rig.call({ stdin: '{"a":1}' }, emulator);
      expect(ended).toMatchObject({ exitCode: 0, stdout: done.stdout, stderr: done.stderr });
      expect(seen[0]).toMatchObject({ name: "bridge", stdin: '{"a":1}', locality: ownLocality() });
      const version = await rig.call({ environment: { CNI_COMMAND: "VERSION" } }, emulator);
      expect(JSON.parse(version.stdout)).toMatchObject({ cniVersion: "1.1.0" });
    },
  );
});
